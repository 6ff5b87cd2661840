"""Notices to a real web server on this machine: one that takes them, one that fails, one that is slow, one that sends elsewhere."""

import argparse
import logging
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from dashboard.__main__ import parse
from dashboard.notify.notice import Notice
from dashboard.notify.options import VARIABLE, ways_out
from dashboard.notify.send import DeliveryError, Outlet, Webhook
from shared.errors import InputError
from shared.schema import RunState, now
from tests.browser.driving import dashboard
from tests.remote import ask
from tests.run_factory import make_run
from tests.test_notify import COLLAPSE, become, tell

SECRET = "T000-B000-secret"


class Server(ThreadingHTTPServer):
    """Answers with the next of `answers`, the last one for ever; keeps what it got."""

    def __init__(self, answers: list[int], slow: threading.Event | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.slow = slow
        self.got: queue.Queue[dict[str, Any]] = queue.Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/{SECRET}?key={SECRET}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.put({**body, "type": self.headers["Content-Type"]})
        if self.server.slow is not None:
            self.server.slow.wait(10)
        status = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def webhook(*answers: int, slow: threading.Event | None = None) -> Iterator[Server]:
    server = Server(list(answers), slow)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if slow is not None:
            slow.set()
        server.shutdown()
        server.server_close()


@contextmanager
def outlet(url: str, *pauses: float, timeout_s: float = 5) -> Iterator[tuple[Outlet, "queue.Queue[Notice]"]]:
    done: queue.Queue[Notice] = queue.Queue()
    made = Outlet(Webhook(url, timeout_s), "http://dash", lambda _name, notice: done.put(notice), lambda: None, pauses)
    made.start()
    try:
        yield made, done
    finally:
        made.stop()


def notice(number: int = 1) -> Notice:
    return Notice(
        number=number, run="a", kind="failed", severity="alarm", title="Training failed", detail="why", step=3, at=now()
    )


def test_a_notice_arrives(caplog: pytest.LogCaptureFixture) -> None:
    with webhook(200) as server, outlet(server.url) as (out, done):
        out.put(notice())
        got = server.got.get(timeout=5)
        assert got["type"] == "application/json"
        assert got["text"] == "Training failed: a, step 3. why\nhttp://dash/live?run=a"
        assert (got["run"], got["kind"], got["step"], got["url"]) == ("a", "failed", 3, "http://dash/live?run=a")
        assert done.get(timeout=5).number == 1 and out.problem is None
    assert not caplog.records


def test_a_server_that_fails_is_tried_again_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "dashboard")
    with webhook(503, 429, 200, 500) as server, outlet(server.url, 0.01, 0.01) as (out, done):
        out.put(notice(1))
        assert done.get(timeout=5).number == 1 and out.problem is None and server.got.qsize() == 3
        out.put(notice(2))
        out.put(notice(3))
        assert [done.get(timeout=5).number for _ in range(2)] == [2, 3], "given up after the last try"
        assert out.problem == "answered 500 Internal Server Error"
    assert [record.message for record in caplog.records] == [
        "notices: webhook at 127.0.0.1: answered 503 Service Unavailable",
        "notices: webhook at 127.0.0.1: answered 500 Internal Server Error",
    ]


@pytest.mark.parametrize(("answer", "asked"), [(404, 1), (302, 1), (500, 3)])
def test_what_a_later_try_cannot_mend_is_not_tried_again(answer: int, asked: int) -> None:
    with webhook(answer) as server, outlet(server.url, 0.01, 0.01) as (out, done):
        out.put(notice())
        done.get(timeout=5)
        assert server.got.qsize() == asked, "a redirect is not followed either"
        assert str(answer) in (out.problem or "")


def test_a_slow_server_holds_up_nobody() -> None:
    slow = threading.Event()
    with webhook(200, slow=slow) as server, outlet(server.url, timeout_s=0.2) as (out, done):
        for number in range(300):
            out.put(notice(number))  # returns at once, also when the queue is full
        assert "are waiting" in (out.problem or "") or out.problem == "no answer within 0 s"
        done.get(timeout=5)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/hooks/{}", "https://127.0.0.1:1/hooks/{}", "http://no-such-host.invalid/hooks/{}"]
)
def test_errors_hold_no_secret(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def offline(host: str, *given: Any, **more: Any) -> Any:
        """No name server is asked: one that does not answer takes its time."""
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(DeliveryError) as caught:
        Webhook(url.format(SECRET)).send(notice(), "")
    assert SECRET not in str(caught.value) and caught.value.__cause__ is None and SECRET not in Webhook(url.format(SECRET)).name


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--notify-webhook", f"file:///etc/{SECRET}"], "--notify-webhook must be an address"),
        (["--notify-webhook", f"hooks.example.org/{SECRET}"], "--notify-webhook must be an address"),
        (["--notify-webhook", f"http://[::1/{SECRET}"], "--notify-webhook must be an address"),
        (["--notify-webhook", f"http:///{SECRET}"], "--notify-webhook must be an address"),
        (["--notify-address", "dash.example.org"], "--notify-address must be an address"),
        (["--notify-command", ""], "empty"),
        (["--notify-command", "no-such-mailer --to x"], "no program no-such-mailer"),
        (["--notify-command", "echo 'open"], "No closing quotation"),
    ],
)
def test_options_that_are_wrong(options: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ways_out(parse(options), {})
    assert SECRET not in str(caught.value)


def test_a_webhook_may_come_from_the_environment() -> None:
    environment = {VARIABLE: "https://hooks.example.org/" + SECRET}
    args: argparse.Namespace = parse(["--notify-command", "true"])
    assert [way.name for way in ways_out(args, environment)] == ["webhook at hooks.example.org", "command true"]
    assert environment == {}


def test_a_dashboard_tells_of_verdicts_and_ends(tmp_path: Path) -> None:
    """The whole way: a trainer writes, a webhook and a command hear of it, with nobody looking."""
    runs, heard = tmp_path / "runs", tmp_path / "heard"
    layout = make_run(runs, "a", steps=60, state=RunState.RUNNING)
    with webhook(200) as server:
        options = [
            "--notify-webhook",
            server.url,
            "--notify-command",
            f"tee {heard}",
            "--notify-address",
            "https://dash.example.org",
        ]
        with dashboard(runs, *options) as address:
            ask(address, "/_stcore/health")  # answers once everything runs
            first = make_run(runs, "b", steps=60, state=RunState.RUNNING)
            tell(first, COLLAPSE)
            got = server.got.get(timeout=15)
            assert (got["run"], got["kind"], got["url"]) == ("b", "collapse", "https://dash.example.org/live?run=b")
            become(layout, RunState.FINISHED)
            assert server.got.get(timeout=15)["kind"] == "finished"
    assert orjson.loads(heard.read_bytes())["run"] in ("a", "b")
