"""Run one benchmark: `python -m tests.benchmarks NAME [options]`; without a name, list them."""

import ast
import difflib
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
HELP = """python -m tests.benchmarks NAME [options]

Each prints a table for people and, as its last line, one JSON object. `NAME --help` lists its options."""


def benchmarks() -> dict[str, str]:
    """Name and first docstring line of every module here that has a `main`; read from the source, nothing is imported."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(argv: list[str]) -> int:
    """List the benchmarks, or run the one named first in `argv`; 2 when there is none of that name."""
    known = benchmarks()
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, known), default=0)
        print(HELP, "", *(f"  {name:<{width}}  {line}" for name, line in known.items()), sep="\n")
        return 0
    name = argv[0].replace("-", "_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        print(f"no benchmark {argv[0]!r}; {hint}", file=sys.stderr)
        return 2
    sys.argv[0] = f"tests.benchmarks {name}"
    importlib.import_module(f"tests.benchmarks.{name}").main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
