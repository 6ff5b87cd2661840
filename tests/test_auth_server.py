"""A real server that asks for a token: every route it has, over HTTP and WebSocket, with no credential, a bad one and the good one."""

import itertools
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.browser.driving import dashboard
from tests.remote import PAGE, Answer, ask, knock, routes
from tests.run_factory import make_run

TOKEN = "correct-horse-battery-staple"
GOOD = {"Authorization": f"Bearer {TOKEN}"}
BAD = {
    "nothing": {},
    "wrong token": {"Authorization": "Bearer wrong-horse-battery-staple"},
    "no token": {"Authorization": "Bearer "},
    "another scheme": {"Authorization": f"Basic {TOKEN}"},
    "forged session": {"Cookie": "seqsetvae_0000000000=1795606622.abcdefghijklmnop.AAAA"},
    "Streamlit's cookie": {"Cookie": "_streamlit_user=e30.abc; _streamlit_xsrf=2|00|00|1"},
}
FILES = ["/", "/live", "/jobs?run=x", "/index.html", "/favicon.png", "/nothing/here", "/_stcore", "/_stcore/health/", "//_stcore/health",
         "/_stcore/health/../host-config", "/_stcore/../push", "/push/", "/PUSH"]  # fmt: skip
REFUSED = {401, 403}
STRANGERS = (f"203.0.{n // 250}.{n % 250}" for n in itertools.count())
"""One address for each try, as a proxy on this machine reports it: guesses from one are slowed."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote") / "runs"
    make_run(folder, "here", steps=60)
    make_run(folder.parent, "elsewhere", steps=60, error="CANARY of another folder")
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    with dashboard(runs, "--auth", "token", env={"SEQSETVAE_TOKEN": TOKEN}) as address:
        yield address


@pytest.fixture(scope="module")
def session(server: str) -> dict[str, str]:
    """The cookie of somebody who typed the token."""
    return {"Cookie": cookie_of(sign_in(server))}


def sign_in(server: str, token: str = TOKEN, target: str = "/live?run=here", headers: dict[str, str] | None = None) -> Answer:
    form = f"token={quote(token)}&next={quote(target)}".encode()
    return ask(server, "/login", "POST", {**PAGE, "Content-Type": "application/x-www-form-urlencoded", **(headers or {})}, form)


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "here", path) or "/"


def test_every_route_asks_for_a_sign_in(server: str, runs: Path, session: dict[str, str]) -> None:
    found = routes(runs)
    assert {"/push", "/_stcore/stream", "/_stcore/health"} <= {path for _, path, _ in found}, "routes are no longer found"
    asked = [
        (filled(path), method)
        for kind, path, methods in found
        if kind == "Route"
        for method in methods
        if path != "/_stcore/health"
    ]
    asked += [(path, method) for path in FILES for method in ("GET", "HEAD", "POST")]
    open_to_all = [
        f"{method} {path} with {name}: {answer.status}"
        for path, method in asked
        for name, headers in BAD.items()
        if (answer := ask(server, path, method, {**headers, "X-Forwarded-For": next(STRANGERS)})).status not in REFUSED
    ]
    assert not open_to_all, "answered without a sign-in:\n" + "\n".join(open_to_all)
    shut = [
        f"{m} {p}" for p, m in asked for credential in (session, GOOD) if ask(server, p, m, credential).status in {401, 429}
    ]
    assert not shut, f"refused with the right credential: {shut}"


def test_every_socket_asks_for_a_sign_in(server: str, runs: Path, session: dict[str, str]) -> None:
    sockets = [filled(path) for kind, path, _ in routes(runs) if kind == "WebSocketRoute"]
    assert "/_stcore/stream" in sockets
    for path in sockets:
        assert {knock(server, path, {**headers, "X-Forwarded-For": next(STRANGERS)}) for headers in BAD.values()} <= REFUSED
        assert knock(server, path, session) == 101
        assert knock(server, path, GOOD) == 101
        assert knock(server, path, {**session, "Origin": "http://evil.example"}) == 403
        assert knock(server, path, {**session, "Origin": server.replace("127.0.0.1", "localhost")}) == 403, (
            "another name is another site"
        )
        assert knock(server, path, {**session, "Origin": server}) == 101


def test_only_health_is_open(server: str) -> None:
    answer = ask(server, "/_stcore/health")
    assert (answer.status, answer.text) == (200, "ok")
    assert ask(server, "/_stcore/health", headers={"Host": "anything.example"}).status == 200


def test_a_page_leads_to_the_form_and_back(server: str) -> None:
    first = ask(server, "/live?run=here&x=%26", headers=PAGE)
    assert (first.status, first.headers["location"]) == (303, "./login?next=/live%3Frun%3Dhere%26x%3D%2526")
    form = ask(server, "/login?next=" + quote('/live?run="><script>x</script>'), headers=PAGE)
    assert form.status == 200 and "<script" not in form.text and "&lt;script" in form.text
    assert "default-src 'none'" in form.headers["content-security-policy"]
    wrong = sign_in(server, "wrong-horse-battery-staple")
    assert wrong.status == 401 and "not the token" in wrong.text and "set-cookie" not in wrong.headers
    done = sign_in(server)
    assert (done.status, done.headers["location"]) == (303, "./live?run=here")
    flags = done.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "secure" not in flags
    assert TOKEN not in done.headers["set-cookie"]
    assert ask(server, "/live", headers={**PAGE, "Cookie": cookie_of(done)}).status == 200


def test_behind_https_the_cookie_is_secure(server: str) -> None:
    assert "secure" in sign_in(server, headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/\r\nX: 1", "javascript:alert(1)"]
)
def test_a_sign_in_leads_nowhere_else(server: str, target: str) -> None:
    assert sign_in(server, target=target).headers["location"] == "./"


def test_the_token_in_an_address_is_taken_out_of_it(server: str, session: dict[str, str]) -> None:
    answer = ask(server, f"/live?run=here&token={TOKEN}", headers=PAGE)
    assert (answer.status, answer.headers["location"]) == (303, "./live?run=here")
    assert ask(server, "/", headers={"Cookie": cookie_of(answer)}).status == 200
    again = ask(server, f"/?token={TOKEN}", headers={**PAGE, **session})
    assert (again.status, again.headers["location"]) == (303, "./")
    assert ask(server, "/?token=wrong", headers=PAGE).status in REFUSED


def test_a_link_elsewhere_leads_to_the_run_of_who_is_signed_in(server: str) -> None:
    """A strict cookie does not come with it: the page asks once more, from this site."""
    answer = ask(server, "/live?run=here&x=1", headers={**PAGE, "Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200 and 'content="0; url=./live?run=here&amp;x=1"' in answer.text


def test_signing_out_ends_the_session(server: str) -> None:
    mine = {"Cookie": cookie_of(sign_in(server))}
    ask(server, "/logout", headers={**PAGE, **mine, "Sec-Fetch-Site": "cross-site"})
    assert ask(server, "/push", headers=mine).status == 200, "a link elsewhere must not sign anybody out"
    done = ask(server, "/logout", headers={**PAGE, **mine, "Sec-Fetch-Site": "same-origin"})
    assert done.status == 303 and "max-age=0" in done.headers["set-cookie"].lower()
    assert ask(server, "/push", headers=mine).status == 401


def test_signing_out_ends_open_streams_and_sockets(server: str) -> None:
    mine = {"Cookie": cookie_of(sign_in(server))}
    with urllib.request.urlopen(urllib.request.Request(f"{server}/push?run=here", headers=mine), timeout=20) as stream:
        assert stream.readline().startswith(b"data: ")
        with connect(
            server.replace("http", "ws") + "/_stcore/stream", additional_headers=mine, subprotocols=["streamlit"]
        ) as socket:  # type: ignore[list-item]
            ask(server, "/logout", headers={**PAGE, **mine})
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    socket.recv(timeout=20)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        stream.read()  # comes back: the stream has ended, and properly


def test_guesses_are_slowed(server: str) -> None:
    other = {"X-Forwarded-For": "198.51.100.7"}  # a proxy on this machine says who asks
    seen = [sign_in(server, f"guess-number-{n}-of-many", headers=other).status for n in range(12)]
    assert seen == [401] * 10 + [429] * 2
    late = sign_in(server, headers=other)
    assert late.status == 429 and 0 < int(late.headers["retry-after"]) <= 6
    assert sign_in(server, headers={"X-Forwarded-For": "198.51.100.8"}).status == 303, "nobody else is locked out"


def test_headers_bind_the_browser(server: str) -> None:
    headers = ask(server, "/live", headers={**PAGE, **GOOD}).headers
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "'unsafe-inline'" not in re.search(r"script-src [^;]*", policy)[0]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
    assert "server" not in headers
    cors = ask(server, "/_stcore/host-config", headers={**GOOD, "Origin": server}).headers
    assert "access-control-allow-origin" not in cors


NAMES = ["..", "../elsewhere", "..%2felsewhere", "%2e%2e/elsewhere", "%2e%2e%2felsewhere", "%252e%252e%252felsewhere", "link",
         "./here/../../elsewhere",
         "..%5celsewhere", "elsewhere%00", "here%00/../../elsewhere", "%2fetc%2fpasswd", "a" * 5000, "file:///etc/passwd", "C:%5c", "%ff%fe",
         "here/../../elsewhere", ".", "~", "%E2%80%AE", "{}"]  # fmt: skip
PARAMETERS = ("run", "runs", "name", "key", "path", "file", "checkpoint", "snapshot", "q")


def test_no_address_reads_outside_the_runs(server: str, runs: Path) -> None:
    """Every route of ours, every name in every place where one may stand."""
    outside = str(runs.parent / "elsewhere")
    own = [
        path for kind, path, methods in routes(runs) if kind == "Route" and "GET" in methods and not path.startswith("/_stcore")
    ]
    asked = [path for path in own if "{" not in path] + ["/live"]
    addresses = [f"{path}?{'&'.join(f'{p}={name}' for p in PARAMETERS)}" for path in asked for name in [*NAMES, quote(outside)]]
    addresses += [re.sub(r"\{[^}]*\}", name, path) for path in own if "{" in path for name in [*NAMES, outside]]
    leaks = []
    for address in addresses:
        answer = ask(server, address, headers=GOOD)
        told = answer.text + str(answer.headers)
        if "CANARY" in told or "root:" in told or answer.status >= 500:
            leaks.append(f"{answer.status} {address[:120]}")
    assert not leaks, leaks
    assert "CANARY" not in ask(server, "/push?run=link", headers=GOOD).text
    assert '"step":"60"' in ask(server, "/push?run=here", headers=GOOD).text, "the table would not notice an answer"
