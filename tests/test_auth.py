"""Options about access, tokens and sessions, the slowing of guesses, and the names a dashboard answers to."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from dashboard.__main__ import parse
from dashboard.auth.access import VARIABLE, decide
from dashboard.auth.gates import TokenGate
from dashboard.auth.hosts import Hosts, host_name
from dashboard.auth.pages import safe_target
from dashboard.auth.token import COOKIE_AGE_S, Throttle, Tokens
from shared.errors import InputError
from tests.browser.driving import dashboard
from tests.remote import PAGE, ROOT, ask, knock

TOKEN = "correct-horse-battery-staple"


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def connection(**headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": raw})


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], ["--host 0.0.0.0", "--auth token", "--auth oidc", "--auth proxy", "ssh -L"]),
        (["--host", "::"], ["--host ::"]),
        (["--host", "box.example.org"], ["--host box.example.org"]),
        (["--token-file", "x"], ["--token-file belongs to --auth token"]),
        (["--auth", "token", "--allow-user", "a@b.c"], ["--allow-user belongs to --auth oidc"]),
        (["--auth", "proxy", "--host", "0.0.0.0"], ["--allow-host NAME"]),
        (["--auth", "proxy", "--allow-host", "https://x/y"], ["--allow-host https://x/y"]),
        (["--auth", "token", "--token-file", "/nowhere/token"], ["/nowhere/token", "No such file"]),
    ],
)
def test_options_that_do_not_fit(options: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        decide(parse(options), {})
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "token", ["short", "", "with blanks in between them", "mit-Umlauten-äöü-geschrieben", "line\nbreak-in-the-middle"]
)
def test_tokens_that_can_be_guessed_or_typed_wrong(tmp_path: Path, token: str) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    with pytest.raises(InputError, match="at least 16 characters") as caught:
        decide(parse(["--auth", "token", "--token-file", str(file)]), {})
    assert str(file) in str(caught.value) and not (token and token in str(caught.value)), "an error must not print the token"


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    environment = {VARIABLE: "from-the-environment-of-it"}
    chosen = decide(parse(["--auth", "token", "--token-file", str(file)]), environment)
    assert isinstance(chosen.gate, TokenGate) and chosen.gate.tokens.is_token(TOKEN) and chosen.query == ""
    assert environment == {}, "programs started from here must not inherit it"
    environment = {VARIABLE: "from-the-environment-of-it"}
    chosen = decide(parse(["--auth", "token"]), environment)
    assert (
        isinstance(chosen.gate, TokenGate)
        and chosen.gate.tokens.is_token("from-the-environment-of-it")
        and VARIABLE not in environment
    )
    made_up = [decide(parse(["--auth", "token", "--host", "0.0.0.0"]), {}).query for _ in range(2)]
    assert made_up[0] != made_up[1] and all(len(query) > 40 for query in made_up)


def test_a_dashboard_for_others_does_not_start_without_a_sign_in(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", "--runs", str(tmp_path / "runs"), "--port", "0", "--host", "0.0.0.0"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "--auth" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is made before the options are right"


def test_a_made_up_token_is_printed_once_and_is_nowhere_else(tmp_path: Path) -> None:
    with dashboard(tmp_path, "--host", "0.0.0.0", "--auth", "token") as printed:
        address, _, token = printed.partition("/?token=")
        local = f"http://127.0.0.1:{address.rpartition(':')[2]}"
        assert ask(local, f"/?token={token}", headers=PAGE).status == 303
        assert ask(local, "/push", headers={"Authorization": f"Bearer {token}"}).status == 200
        arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path))
        assert token.encode() not in arguments


def readable(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid() and stat.S_ISREG(path.stat().st_mode) and path.read_bytes() is not None
    except OSError:
        return False


# --- tokens and sessions


def test_sessions_last_and_end() -> None:
    clock = Clock()
    tokens = Tokens(TOKEN, clock)
    cookie = tokens.begin()
    assert TOKEN not in cookie
    name = tokens.session(cookie)
    assert name and Tokens(TOKEN, clock).session(cookie) == name, "it outlives a restart"
    assert Tokens(TOKEN + "!", clock).session(cookie) is None, "a new token ends it"
    assert Tokens(TOKEN + "!").cookie != tokens.cookie, "two dashboards on one host keep apart"
    clock.now += COOKIE_AGE_S + 1
    assert tokens.session(cookie) is None
    fresh = tokens.begin()
    tokens.end(fresh)
    assert tokens.session(fresh) is None and tokens.session(tokens.begin()) is not None


def test_a_session_cannot_be_changed() -> None:
    tokens = Tokens(TOKEN)
    cookie = tokens.begin()
    for at in range(len(cookie) - 1):  # the last letter of base64 has bits to spare
        other = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
        assert tokens.session(other) is None, f"letter {at}"


@given(st.text())
def test_any_text_as_cookie_or_token(text: str) -> None:
    assert HYPOTHESIS.session(text) is None
    assert not HYPOTHESIS.is_token(text)


HYPOTHESIS = Tokens("a token no strategy will find")


def test_guesses_of_one_address_are_slowed_and_memory_is_bounded() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(Throttle.TRIES):
        assert throttle.wait("192.0.2.1") == 0
        throttle.failed("192.0.2.1")
    assert throttle.wait("192.0.2.1") == pytest.approx(Throttle.EVERY_S)
    assert throttle.wait("192.0.2.2") == 0
    clock.now += Throttle.EVERY_S
    assert throttle.wait("192.0.2.1") == 0
    for n in range(Throttle.TRIES):
        throttle.failed(f"2001:db8::{n:x}")
    assert throttle.wait("2001:db8::ffff") > 0, "a network of 64 bits is one person"
    for n in range(2 * Throttle.KEPT):
        throttle.failed(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(throttle._whole_at) == Throttle.KEPT


# --- names and pages of other sites


@pytest.mark.parametrize(
    ("value", "name"),
    [("localhost:8501", "localhost"), ("LOCALHOST.", "localhost"), ("[::1]:8501", "::1"), ("127.0.0.1", "127.0.0.1"), ("a b", None),
     ("evil.example@localhost", None), ("localhost/x", None), ("", None), ("localhost:8501:1", None), ("[::1", None)],
)  # fmt: skip
def test_host_headers(value: str, name: str | None) -> None:
    assert host_name(value) == name


@given(st.text())
def test_any_host_header(text: str) -> None:
    name = host_name(text)
    assert name is None or name.isascii()


@pytest.mark.parametrize(
    "host", ["localhost:8501", "127.0.0.1:8501", "127.1.2.3", "[::1]:9000", "runs.localhost", "mine.example.org"]
)
def test_own_names_are_answered(host: str) -> None:
    assert Hosts(["Mine.example.org"]).refusal(connection(host=host)) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example:8501", "0.0.0.0:8501", "localhost.evil.example", "192.168.0.7", "127.0.0.1.evil.example", "2130706433"],
)
def test_other_names_are_not(host: str) -> None:
    assert "--allow-host" in (Hosts().refusal(connection(host=host)) or "")
    assert Hosts(anybody=True).refusal(connection(host=host)) is None


def test_pages_of_other_sites_may_link_but_not_read() -> None:
    hosts = Hosts()
    visit = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    for site in ("cross-site", "same-site"):
        assert hosts.refusal(connection(host="localhost:8501", sec_fetch_site=site, **visit)) is None
        for asked in ({"sec_fetch_mode": "no-cors"}, {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, {}):
            assert hosts.refusal(connection(host="localhost:8501", sec_fetch_site=site, **asked))
    for origin in ("http://localhost:3000", "http://evil.example", "null", "file://localhost:8501", ""):
        assert hosts.refusal(connection(host="localhost:8501", origin=origin)), origin
    assert hosts.refusal(connection(host="localhost:8501", origin="http://localhost:8501")) is None
    behind = Hosts(["monitor.example.org"])
    assert behind.refusal(connection(host="127.0.0.1:8501", origin="https://monitor.example.org")) is None
    assert Hosts().refusal(HTTPConnection({"type": "http", "headers": []})) is not None


@given(st.text())
def test_after_a_sign_in_nobody_leaves_the_server(text: str) -> None:
    for target in (text, "/" + text):
        safe = safe_target(target)
        assert safe.startswith("/") and not safe.startswith(("//", "/\\")) and "\n" not in safe and "\r" not in safe


def test_a_local_dashboard_answers_only_this_machine(tmp_path: Path) -> None:
    """Without a sign-in: a page elsewhere, also one whose name was pointed at this machine, reads nothing."""
    with dashboard(tmp_path) as address:
        port = address.rpartition(":")[2]
        assert ask(address, "/push").status == 200
        for path in ("/push", "/", "/_stcore/host-config", "/assets/x"):
            assert ask(address, path, headers={"Host": f"evil.example:{port}"}).status == 403
        assert ask(address, "/push", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status == 403
        assert knock(address, headers={"Origin": "http://localhost:3000"}) == 403
        assert knock(address, headers={"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}) == 403
        assert knock(address, headers={"Origin": address}) == 101
