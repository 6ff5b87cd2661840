"""The rules of the house, read from the source: who may import whom, how long things may be, and what is refused."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from backend.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 45

SHARED_MAY_IMPORT = {*sys.stdlib_module_names, "numpy", "pandas", "pyarrow", "pydantic", "orjson", "shared"}
MUST_NOT_IMPORT = {
    "backend": {"streamlit", "dashboard", "tests"},
    "dashboard": {"torch", "torchmetrics", "lightning", "pytorch_lightning", "backend", "tests"},
}
LONG_ON_PURPOSE: dict[str, str] = {}
"""`path` or `path:function` -> why it may be longer. Starts empty; each entry is a decision somebody can question."""

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/")


@cache
def committed(*suffixes: str) -> list[Path]:
    """Tracked and new files with one of `suffixes` (all when none is given), without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    paths = [ROOT / name for name in listed.split("\0") if name]
    return sorted(path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes))


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    """Every Python file of the repository, relative to its root, with its syntax tree."""
    return [(path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in committed(".py")]


def product_modules() -> list[tuple[Path, ast.Module]]:
    return [(path, tree) for path, tree in modules() if path.parts[0] in ("shared", "backend", "dashboard")]


def imported_packages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import at any depth, `importlib.import_module("name")` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value.partition(".")[0]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def assert_none(offences: list[str], rule: str) -> None:
    assert not offences, f"{rule}:\n  " + "\n  ".join(offences)


def test_shared_imports_only_light_packages() -> None:
    offences = [
        f"{path}:{line} imports {package}"
        for path, tree in modules()
        if path.parts[0] == "shared"
        for line, package in imported_packages(tree)
        if package not in SHARED_MAY_IMPORT
    ]
    assert_none(offences, "shared may import the standard library, numpy, pandas, pyarrow, pydantic and orjson")


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_backend_and_dashboard_keep_apart(folder: str) -> None:
    offences = [
        f"{path}:{line} imports {package}"
        for path, tree in modules()
        if path.parts[0] == folder
        for line, package in imported_packages(tree)
        if package in MUST_NOT_IMPORT[folder]
    ]
    assert_none(offences, f"{folder} must not import {', '.join(sorted(MUST_NOT_IMPORT[folder]))}, at any depth")


def test_charts_know_nothing_of_streamlit() -> None:
    offences = [
        f"{path}:{line} imports streamlit"
        for path, tree in modules()
        if path.parts[0] == "dashboard" and path.name == "charts.py"
        for line, package in imported_packages(tree)
        if package == "streamlit"
    ]
    assert_none(offences, "a chart is a function from a frame to a figure, and is tested as data")


def test_light_packages_load_nothing_heavy() -> None:
    """What the source does not show: an import that drags torch in by way of another package."""
    code = "import sys, shared.collapse, shared.config, shared.dataset, shared.reader, shared.writer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split()
    assert {"torch", "lightning", "streamlit", "plotly", "backend", "dashboard"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    "words",
    [
        *([command, "--help"] for command in COMMANDS),
        *([command, "--batch_size", "0"] for command in ("train", "preflight")),
        *([command, "a-path", "--batch_size", "0"] for command in ("resume", "evaluate", "visualize")),
        *([command, "no-such-path"] for command in ("resume", "evaluate", "visualize")),
        ["train", "--resume_from_checkpoint", "no-such-path"],
    ],
    ids=" ".join,
)
def test_what_a_command_line_shows_by_itself_is_answered_before_torch_is_loaded(words: list[str]) -> None:
    """Help, bad options, paths that are not there: in a fraction of a second."""
    code = (
        "import contextlib, sys, backend.__main__ as backend\n"
        f"with contextlib.suppress(SystemExit): assert backend.main({words}) == 2\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert COMMANDS[words[0]][0] in loaded
    assert {"torch", "lightning", "pandas", "scipy", "matplotlib"}.isdisjoint(loaded)


def test_what_a_command_loads_when_it_runs_can_be_loaded_first() -> None:
    """No cycle among its imports, whatever was loaded before: each in a process of its own, forked when torch is loaded."""
    work = ("training", "evaluation", "branching", "visualize_checkpoint", "preflight_figures")
    code = (
        "import os, lightning\n"
        f"for name in {work}:\n"
        "    if os.fork() == 0:\n"
        "        __import__('backend.' + name)\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0, name"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def blanket_handlers(tree: ast.Module) -> Iterator[int]:
    """Lines of `except:`, `except Exception`, also inside a tuple, and of `suppress(Exception)`.

    A handler that ends in a bare `raise` hides nothing (it saves an error checkpoint, say) and is let through.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
                continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
            caught = node.args
        else:
            continue
        if any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in caught):
            yield node.lineno


def test_no_blanket_except() -> None:
    offences = [f"{path}:{line}" for path, tree in modules() for line in blanket_handlers(tree)]
    assert_none(offences, "catch what you can name; the rest must be seen")


def test_blanket_handlers_are_recognised() -> None:
    shapes = ("except:", "except Exception:", "except (OSError, Exception) as e:", "except BaseException:")
    for shape in shapes:
        assert list(blanket_handlers(ast.parse(f"try:\n    x\n{shape}\n    y"))) == [3], shape
    assert list(blanket_handlers(ast.parse("with contextlib.suppress(Exception): x"))) == [1]
    assert not list(blanket_handlers(ast.parse("try:\n    x\nexcept OSError:\n    y")))
    assert not list(blanket_handlers(ast.parse("try:\n    x\nexcept Exception:\n    save()\n    raise")))


def test_modules_and_public_things_have_docstrings() -> None:
    offences = []
    for path, tree in product_modules():
        if ast.get_docstring(tree) is None:
            offences.append(f"{path}:1 module")
        public = [
            node
            for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
            for node in scope.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        offences += [f"{path}:{node.lineno} {node.name}" for node in public if ast.get_docstring(node) is None]
    assert_none(offences, "say what it is for")


def test_files_are_short() -> None:
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path, _ in modules()}
    offences = [
        f"{path}:{lines} lines"
        for path, lines in lengths.items()
        if lines > MAX_FILE_LINES and str(path) not in LONG_ON_PURPOSE
    ]
    assert_none(offences, f"a file holds at most {MAX_FILE_LINES} lines; split it by what it is about")


def test_functions_are_short() -> None:
    offences = []
    for path, tree in modules():
        for node in functions(tree):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES and f"{path}:{node.name}" not in LONG_ON_PURPOSE:
                offences.append(f"{path}:{node.lineno} {node.name} ({lines} lines)")
    assert_none(offences, f"a function holds at most {MAX_FUNCTION_LINES} lines")


def test_allowlist_is_in_use() -> None:
    known = {str(path) for path, _ in modules()}
    known |= {f"{path}:{node.name}" for path, tree in modules() for node in functions(tree)}
    assert_none([name for name in LONG_ON_PURPOSE if name not in known], "these no longer exist; drop them from the list")


def test_no_file_names_a_path_of_one_machine() -> None:
    offences = []
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        offences += [
            f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if MACHINE_PATH.search(line)
        ]
    assert_none(offences, "paths are passed, or found relative to the repository")


def test_machine_paths_are_recognised() -> None:
    """The pattern above is itself easy to get wrong."""
    named = ["/" + "work/main", "see /" + "root/.cache", "'/" + "home/ann/data'", "(/" + "Users/ann/x)"]
    assert all(MACHINE_PATH.search(text) for text in named)
    assert not any(MACHINE_PATH.search(text) for text in ("a/work/b", "../shared/data", "/tmp/x", "home/x", "network/root/"))
