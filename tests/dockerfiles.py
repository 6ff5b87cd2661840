"""Reads Dockerfiles, and carries them out without Docker: in a copy-on-write view of this machine's own root, as root, by chroot.

What this machine cannot stand in for is the base image: its Python is this machine's, its packages are Debian's.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of the exec form the list, of any other the words."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


def read(path: Path) -> list[Instruction]:
    """All instructions in their order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    parts = (line.strip().partition(" ") for line in whole.splitlines() if line.strip())
    return [Instruction(name.upper(), text.strip()) for name, _, text in parts]


def of(instructions: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in instructions if instruction.name == name]


def environment(instructions: list[Instruction]) -> dict[str, str]:
    """What every ENV sets, with $PATH as the base images have it."""
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for instruction in of(instructions, "ENV"):
        for word in shlex.split(instruction.text):
            name, _, value = word.partition("=")
            found[name] = value.replace("$PATH", found["PATH"])
    return found


def check_of(instructions: list[Instruction]) -> list[str]:
    """The command of the health check."""
    return json.loads(of(instructions, "HEALTHCHECK")[0].text.partition("CMD ")[2])


def sent(dockerfile: Path) -> list[Path]:
    """The files that COPY takes from what the .dockerignore lets through and git knows, relative to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout  # fmt: skip
    sources = [word for instruction in of(read(dockerfile), "COPY") for word in instruction.words[:-1]]
    lines = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = tuple(line[1:] for line in lines if line.startswith("!"))
    dropped = {line for line in lines if line and line[0] not in "!#*"}
    return [
        Path(name)
        for name in listed.split("\0")
        if name and (ROOT / name).is_file() and name not in dropped
        if any(name == entry.rstrip("/") or name.startswith(entry.rstrip("/") + "/") for entry in kept)
        and any(name == source or (source.endswith("/") and name.startswith(source)) for source in sources)
    ]


def closure(requirements: Path) -> set[str]:
    """Names of the pinned packages and of all that they need, as they are installed here."""
    wanted = [line.partition("==")[0] for line in requirements.read_text(encoding="utf-8").splitlines() if "==" in line]
    found: set[str] = set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for need in metadata.requires(name) or ():
            asked, _, condition = need.partition(";")
            if "extra" not in condition and "win32" not in condition and "Windows" not in condition:
                other = re.split(r"[ \[<>=!~(]", asked.strip())[0]
                if _is_installed(other):
                    wanted.append(other)
    return found


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def link_packages(names: set[str], site: Path) -> None:
    """A site folder that holds these packages alone: links to what is installed here."""
    site.mkdir(parents=True)
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source.resolve())


@cache
def why_no_sandbox() -> str | None:
    """Why the steps cannot be carried out here; None where they can."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "carrying out the steps of a Dockerfile takes root and unshare"
    done = subprocess.run(
        ["unshare", "-mpn", *WITH_CHILDREN, "sh", "-ec", MOUNT + "true"],
        capture_output=True,
        text=True,
        check=False,
        env=_with({}),
    )
    return None if done.returncode == 0 else f"no overlay can be mounted here: {done.stderr.strip()}"


WITH_CHILDREN = ("--fork", "--kill-child")
"""Whatever the script started ends with it, also when it takes too long."""
MOUNT = """
base=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$base/upper",workdir="$base/work" "$base/root"
root="$base/root"
mount -t proc proc "$root/proc" 2>/dev/null || mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
"""


def carry_out(
    script: str, variables: dict[str, str], *, network: bool = True, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell in namespaces of its own; `$root` is the view of this machine that it may change."""
    flags = "-mp" if network else "-mpn"
    return subprocess.run(
        ["unshare", flags, *WITH_CHILDREN, "sh", "-ec", MOUNT + script], capture_output=True, text=True, check=False,
        env=_with(variables), timeout=timeout_s,
    )  # fmt: skip


def _with(variables: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **variables}


def interpreter() -> Path:
    """The Python that virtual environments are made from."""
    return Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
