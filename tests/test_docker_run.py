"""The images without Docker: every RUN carried out as it is written, and the dashboard served from exactly the files that are copied,
by the user of the image, on a root that cannot be written, without torch. See tests/dockerfiles.py for what stands in for what."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.dockerfiles import (
    DOCKER,
    ROOT,
    carry_out,
    check_of,
    closure,
    environment,
    interpreter,
    link_packages,
    of,
    read,
    sent,
    why_no_sandbox,
)
from tests.run_factory import make_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_no_sandbox() is not None, reason=str(why_no_sandbox()))]
TOKEN = "a-token-for-the-container"
WITHOUT_DOWNLOADS = {
    "PIP_DRY_RUN": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_QUIET": "1",
}
"""pip reads the pins and finds each among wheels that hold nothing but the name and version of what is installed here, which `make`
took from the index by the same pins; it stops before it installs."""
SIMULATE = 'APT::Get::Simulate "true";\nAPT::Get::List-Cleanup "false";\n'
"""apt reads its lists and works out the installation, and stops before it installs."""


PATIENCE_S = 60.0
"""Package lists of the system come over the network; a slow mirror is no failure of the Dockerfile."""


def empty_wheels(folder: Path) -> None:
    """A wheel without contents for each package that is installed here, in its version."""
    folder.mkdir()
    for distribution in metadata.distributions():
        name, version = re.sub(r"[-_.]+", "_", distribution.name), distribution.version
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            about = f"{name}-{version}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")


def steps(name: str) -> str:
    """All RUNs of a Dockerfile as one script, each in its folder and with its variables, as Docker runs it."""
    instructions = read(DOCKER / f"{name}.Dockerfile")
    variables = " ".join(shlex.quote(f"{key}={value}") for key, value in environment(instructions).items() if key != "HOME")
    parts, folder = [], "/"
    for instruction in instructions:
        if instruction.name == "WORKDIR":
            folder = instruction.text
            parts.append(f'mkdir -p "$root{folder}"')
        elif instruction.name == "COPY":
            *sources, target = instruction.words
            for source in sources:
                place = f"$root{folder}/{target}" if not target.startswith("/") else f"$root{target}"
                parts.append(f'mkdir -p "{place}" && cp -r {shlex.quote(str(ROOT / source))} "{place}"')
        elif instruction.name == "RUN":
            command = f"cd {folder} && {instruction.text}"
            parts.append(f"echo {shlex.quote('RUN ' + instruction.text)}")
            parts.append(f'env {variables} APT_CONFIG=/simulate.conf chroot "$root" /bin/sh -ec {shlex.quote(command)}')
    return "\n".join(parts)


@pytest.mark.parametrize("name", ["backend", "dashboard"])
def test_every_run_step_works(name: str, tmp_path: Path) -> None:
    (tmp_path / "simulate.conf").write_text(SIMULATE)
    empty_wheels(tmp_path / "wheels")
    base = f"""
cp -r {shlex.quote(str(tmp_path / "wheels"))} "$root/wheels"
cp {shlex.quote(str(tmp_path / "simulate.conf"))} "$root/simulate.conf"
chroot "$root" {interpreter()} -m venv /image
ln -sf /image/bin/pip "$root/usr/local/bin/pip"
ln -sf /image/bin/python "$root/usr/local/bin/python"
"""
    after = """
chroot "$root" stat -c '%n %u' /runs
chroot "$root" getent passwd app
"""
    try:
        done = carry_out(base + steps(name) + after, WITHOUT_DOWNLOADS, timeout_s=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace").splitlines()
        pytest.skip(
            f"nothing came of `{printed[-1] if printed else 'venv'}` within {PATIENCE_S:.0f} s: no package lists from here?"
        )
    if "Temporary failure resolving" in done.stderr:
        pytest.skip("no package lists of the system can be reached from here")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.count("RUN ") == len(of(read(DOCKER / f"{name}.Dockerfile"), "RUN")) >= 2
    assert "/runs 10001" in done.stdout and "app:x:10001:10001::/tmp:/usr/sbin/nologin" in done.stdout


CLIENT = """
import sys, time, urllib.error, urllib.request
def ask(path, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8501" + path, headers=headers), timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
good = {"Authorization": "Bearer TOKEN"}
print("push without", ask("/push?run=a"), "push with", ask("/push?run=a", **good), "page", ask("/live", **good))
""".replace("TOKEN", TOKEN)  # fmt: skip
UP = """
import fcntl, socket, struct
s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))
"""
"""Brings the loopback device of the new network up."""


def lay_out(image: Path) -> None:
    """The files that the Dockerfile copies, and the packages that it installs, as links to those here."""
    dockerfile = DOCKER / "dashboard.Dockerfile"
    for file in sent(dockerfile):
        target = image / "app" / (file.name if file.parts[0] == "docker" else file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    assert not (image / "app" / "backend").exists()
    names = closure(DOCKER / "dashboard-requirements.txt")
    assert {"streamlit", "plotly", "authlib", "joserfc", "pillow"} <= names and not {
        "torch",
        "lightning",
        "numba",
        "umap-learn",
    } & names
    link_packages(names, image / "site")


def serving(files: Path) -> str:
    """Lays `files` out in the root as the image and its volumes hold them, and serves from there as Docker does."""
    instructions = read(DOCKER / "dashboard.Dockerfile")
    command = [*of(instructions, "ENTRYPOINT")[0].words, "--auth", "token", "--token-file", "/token"]
    check = shlex.quote(shlex.join(check_of(instructions)))
    inside = as_user(environment(instructions))
    return f"""
{sys.executable} -c {shlex.quote(UP)}
cp -r {files}/app "$root/"
cp {files}/token "$root/token"
mkdir -p "$root/runs"
{opened_up()}
chroot "$root" {interpreter()} -m venv --without-pip /image
cp -r {files}/site/. "$root/image/lib/python3.{sys.version_info.minor}/site-packages/"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
{brought_back()}
mount -t tmpfs tmpfs "$root/runs" && cp -r {files}/runs/. "$root/runs" && chown -R 10001:10001 "$root/runs"
mount -o remount,ro "$root"
{inside} 'touch /app/x 2>/dev/null && echo WRITABLE; touch /runs/x /tmp/x && echo KEPT; id -u'
{inside} 'python -c "import torch" 2>/dev/null && echo TORCH || true'
{inside} {shlex.quote("cd /app && exec " + shlex.join(command))} & server=$!
for try in $(seq 60); do {inside} {check} >/dev/null 2>&1 && break; kill -0 $server; sleep 0.5; done
{inside} {check} && echo HEALTHY
{inside} {shlex.quote(shlex.join(["python", "-c", CLIENT]))}
kill -INT $server; wait $server || true
"""


def as_user(variables: dict[str, str]) -> str:
    """What runs a line of shell inside the root, by the user of the image and with its variables alone."""
    inside = variables | {"PATH": "/image/bin:" + variables["PATH"]}
    words = shlex.join(f"{key}={value}" for key, value in inside.items())
    return f'env -i {words} chroot --userspec=10001:10001 "$root" sh -ec'


def opened_up() -> str:
    """Lets that user pass through the folders that Python lies in."""
    parents = {str(parent) for place in (sys.base_prefix, sys.prefix) for parent in Path(place).parents if str(parent) != "/"}
    return f'for folder in {shlex.join(sorted(parents))}; do chmod o+x "$root$folder"; done'


def brought_back() -> str:
    """Shows again what of Python lies under /tmp, which a tmpfs covers."""
    hidden = [place for place in {sys.base_prefix, sys.prefix} if Path(place).is_relative_to("/tmp")]
    return "\n".join(f'mkdir -p "$root{place}" && mount --bind {place} "$root{place}"' for place in hidden)


def test_dashboard_serves_from_the_copied_files_on_a_read_only_root(tmp_path: Path) -> None:
    lay_out(tmp_path)
    make_run(tmp_path / "runs", "a", steps=60)
    (tmp_path / "token").write_text(TOKEN)
    done = carry_out(serving(tmp_path), {}, network=False)
    said = f"{done.stdout}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, said
    assert "WRITABLE" not in done.stdout and "TORCH" not in done.stdout, "the root must be read-only, and torch not there"
    assert "10001" in done.stdout and "HEALTHY" in done.stdout, said
    assert "push without 401 push with 200 page 200" in done.stdout, said
    assert "KEPT" in done.stdout and "Traceback" not in done.stderr, said
