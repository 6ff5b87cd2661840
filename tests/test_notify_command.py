"""Notices to a real program: what it gets, what it must not get, and how its end is told."""

import os
import socket
import sys
from pathlib import Path

import orjson
import pytest

from backend import ownership
from dashboard.jobs import process
from dashboard.notify.notice import Notice
from dashboard.notify.send import Command, DeliveryError
from shared.schema import now


def command(code: str) -> Command:
    return Command([sys.executable, "-c", code], timeout_s=5)


NOTICE = Notice(
    number=7, run="<!channel> run", kind="failed", severity="alarm", title="Training failed", detail="@all $(touch x) `id`", step=3, at=now()
)  # fmt: skip


def test_a_command_gets_the_notice(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    said = "[json.load(sys.stdin), os.environ['SEQSETVAE_NOTICE_RUN'], os.environ['SEQSETVAE_NOTICE_URL']]"
    command(f"import json, os, sys; json.dump({said}, open({str(out)!r}, 'w'))").send(NOTICE, "https://dash")
    payload, run, url = orjson.loads(out.read_bytes())
    assert payload["run"] == run == "<!channel> run" and payload["detail"] == "@all $(touch x) `id`"
    assert url == "https://dash/live?run=%3C%21channel%3E%20run" and payload["number"] == 7


def test_a_training_that_a_command_starts_is_nobodys_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.HELPER_OF == ownership.HELPER_OF
    monkeypatch.setenv(process.HELPER_OF, "run of the training that started this dashboard")
    out = tmp_path / "names.json"
    command(f"import json, os; json.dump(list(os.environ), open({str(out)!r}, 'w'))").send(NOTICE, "")
    names = set(orjson.loads(out.read_bytes()))
    assert process.HELPER_OF not in names
    assert all(name.startswith("SEQSETVAE_NOTICE_") for name in names - set(os.environ) if name.startswith("SEQSETVAE_"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('x\\nno mail server', file=sys.stderr); sys.exit(3)", "ended with 3: no mail server"),
        ("import sys; sys.stdin.close(); raise SystemExit(0 if False else 1)", "ended with 1"),
    ],
)
def test_a_command_that_fails_says_why(code: str, words: str) -> None:
    with pytest.raises(DeliveryError, match=words):
        command(code).send(NOTICE, "")


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    held = f"import socket, subprocess; held = socket.socket(socket.AF_UNIX); held.connect({str(tmp_path / 'held')!r})"
    child = f"{held}; subprocess.Popen(['sleep', '60'], pass_fds=[held.fileno()]).wait()"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "held"))
        listening.listen()
        with pytest.raises(DeliveryError, match="still ran after 1 s"):
            Command([sys.executable, "-c", child], timeout_s=1).send(NOTICE, "")
        connection, _ = listening.accept()
        connection.settimeout(10)
        assert connection.recv(1) == b"", "the last process that held the socket is gone"
        connection.close()


def test_a_command_that_is_gone() -> None:
    with pytest.raises(DeliveryError, match="cannot be started: No such file"):
        Command(["/nowhere/mailer"]).send(NOTICE, "")
