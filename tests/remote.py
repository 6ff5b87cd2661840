"""Requests as a script, a browser or an attacker sends them: every byte is the test's own, nothing is followed or tidied up."""

import base64
import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""What a browser sends for a page."""
LIST_ROUTES = """
import json, sys
from pathlib import Path
from dashboard.application import application
from dashboard.service import Service, install
service = Service(Path(sys.argv[1]))
install(service)
for route in application(service)._build_starlette_app().routes:
    print(json.dumps([type(route).__name__, route.path, sorted(getattr(route, "methods", None) or [])]))
"""


@dataclass(frozen=True)
class Answer:
    """Status, headers (lower case) and the first bytes of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def ask(
    address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None, most: int = 20_000
) -> Answer:  # fmt: skip
    """One request; of an endless stream only what comes in the first chunk."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        for name, value in {**(headers or {}), **({"Content-Length": str(len(body))} if body is not None else {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        given = {name.lower(): value for name, value in response.getheaders()}
        read = (
            b""
            if method == "HEAD"
            else response.read1(most)
            if "event-stream" in given.get("content-type", "")
            else response.read(most)
        )
        return Answer(response.status, given, read)
    finally:
        connection.close()


def knock(address: str, path: str = "/_stcore/stream", headers: dict[str, str] | None = None) -> int:
    """The status with which a WebSocket is answered: 101 when it is opened."""
    handshake = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "streamlit",
        "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    }  # fmt: skip
    return ask(address, path, headers={**handshake, **(headers or {})}, most=0).status


def routes(runs: Path) -> list[tuple[str, str, list[str]]]:
    """Kind, path and methods of every route of the application, the newest included."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_ROUTES, str(runs)], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
