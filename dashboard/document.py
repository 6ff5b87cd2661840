"""The document that all pages share: Streamlit's own, with a script of ours in front. Nothing here loads Streamlit."""

import gzip
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.responses import Response

FRONTEND = Path(__file__).with_name("frontend")
SMALL_PLOTLY = next((FRONTEND / "vendor").glob("plotly-basic-*.min.js"))
"""The build of plotly.js that knows lines and bars alone; from npm, of the version that the Python package brings."""
SMALL_PLOTLY_PATH = f"assets/{SMALL_PLOTLY.name}"
FOR_GOOD = "public, immutable, max-age=31536000"
"""What caches are told of a file whose name changes with its content."""
LATER = ("BidiComponent", "Html", "Selectbox", "ButtonGroup")
"""Scripts that Streamlit fetches once it has been told that the page needs them, which all pages with charts do."""


@cache
def streamlit_files() -> dict[str, Path]:
    """Streamlit's own files by their addresses."""
    spec = find_spec("streamlit")
    assert spec is not None and spec.origin is not None, "Streamlit is one of the requirements"
    folder = Path(spec.origin).with_name("static")
    return {f"/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}


@cache
def compressed(script: Path) -> bytes:
    """A script, compressed once."""
    return gzip.compress(script.read_bytes(), compresslevel=3)


def script(file: Path) -> Response:
    """A script under an address that changes with its content, so that browsers keep it for good."""
    headers = {"Content-Encoding": "gzip", "Cache-Control": FOR_GOOD}
    return Response(compressed(file), media_type="text/javascript", headers=headers)


@cache
def document(charts: bool, signs_in: bool = False) -> str:
    """The document of a page with or without charts; `signs_in`: Streamlit is to know who looks."""
    page = streamlit_files()["/index.html"].read_text(encoding="utf-8")
    early = (FRONTEND / "early.js").read_text(encoding="utf-8")
    plotly = f' data-plotly="{SMALL_PLOTLY_PATH}"' if charts else ""
    cookie = ' data-cookie="_streamlit_xsrf"' if signs_in else ""
    return page.replace("<head>", f"<head><script{plotly}{cookie}>{early}</script>", 1)


def inline_scripts() -> list[str]:
    """The scripts that stand in the document itself."""
    return re.findall(r"<script[^>]*>([^<].*?)</script>", document(charts=True), flags=re.DOTALL)


@cache
def links() -> str:
    """What a page with charts fetches late, as a Link header that makes browsers fetch it early."""
    files = streamlit_files()
    scripts = [path for path in files if re.fullmatch(rf"/static/js/({'|'.join(LATER)})\.[^/]+", path)]
    seen = set(re.findall(r'"\.(/static/js/[^"]+)"', document(charts=True)))
    found = [f"<{SMALL_PLOTLY_PATH}>; rel=preload; as=script"]
    while scripts:
        script = scripts.pop()
        if script in seen or script not in files:
            continue
        seen.add(script)
        found.append(f"<{script[1:]}>; rel=modulepreload")
        imports = re.findall(r'(?:from|import)"\./([^"]+\.js)"', files[script].read_text(encoding="utf-8"))
        scripts += [f"/static/js/{name}" for name in imports]
    return ", ".join(found)
