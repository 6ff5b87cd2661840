"""What a job printed, as text: the end of its log with what terminals do to lines already done, and the box that shows it."""

import os
import re
from functools import cache
from pathlib import Path

import streamlit as st

from dashboard.components import FRONTEND

LINES = 200
BYTES = 64 * 1024
ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
"""Colours and moves of the cursor (CSI), titles of windows (OSC), and the two-letter rest."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def tail(path: Path, lines: int = LINES) -> str:
    """The last lines of a log; empty before there is one, and for a link."""
    try:
        with open(path, "rb", opener=_no_link) as file:
            end = file.seek(0, 2)
            file.seek(max(end - BYTES, 0))
            data = file.read(BYTES)
    except OSError:
        return ""
    text = as_text(data)
    if end > BYTES:
        text = text.partition("\n")[2]
    return "\n".join(text.split("\n")[-lines - 1 :]).strip("\n")


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def as_text(data: bytes) -> str:
    """Plain lines: no escape sequences, and of a line that was drawn over (progress bars) the last that stood there."""
    text = ESCAPE.sub("", data.decode("utf-8", errors="replace"))
    return "\n".join(CONTROL.sub("", _last_drawn(line)) for line in text.split("\n"))


def _last_drawn(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


@cache
def _script() -> str:
    return (FRONTEND / "log.js").read_text(encoding="utf-8")


def log_box(key: str, text: str, waiting: str) -> None:
    """The text in a box that keeps its place while it grows: at the end it follows, elsewhere it stays; `waiting` when empty."""
    component = st.components.v2.component("seqsetvae.log", js=_script(), isolate_styles=False)
    component(key=f"log-{key}", data={"text": text or waiting, "empty": not text})
