"""Finding lines in a step log without reading it whole."""

from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as some

from shared.lines import between, sampled
from shared.reader import JsonlTail, columns_of
from shared.writer import encode_line

STEPS = some.lists(some.integers(1, 500), unique=True, max_size=60).map(sorted)


def log(folder: Path, steps: list[int], padding: int = 0) -> Path:
    path = folder / "metrics.jsonl"
    path.write_bytes(b"".join(encode_line(step, {"text": "x" * (padding * step % 9000)}) for step in steps))
    return path


def steps_of(data: bytes) -> list[int]:
    return [orjson.loads(line)["step"] for line in data.splitlines()]


@settings(deadline=None, max_examples=80)
@given(
    steps=STEPS,
    low=some.integers(-5, 505),
    span=some.integers(0, 300),
    padding=some.sampled_from([0, 3, 997]),
    torn=some.booleans(),
)
def test_lines_between_two_steps(steps: list[int], low: int, span: int, padding: int, torn: bool, tmp_path_factory) -> None:  # fmt: skip
    path = log(tmp_path_factory.mktemp("log"), steps, padding)
    if torn:
        path.write_bytes(path.read_bytes() + b'{"v":1,"step":50')
    found = between(path, low, low + span, 1 << 30)
    assert steps_of(found) == [step for step in steps if low <= step <= low + span]


def test_lines_without_a_step_do_not_mislead(tmp_path: Path) -> None:
    path = log(tmp_path, list(range(1, 200)))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:90], b"garbage\n", b"{}\n" * 40, *lines[90:]]))
    assert columns_of(between(path, 85, 95, 1 << 30))["step"].tolist() == list(range(85, 96))


def test_what_is_asked_for_is_bounded(tmp_path: Path) -> None:
    path = log(tmp_path, list(range(1, 1000)))
    assert between(path, 1, 999, 500) is None, "more than was asked for is not read"
    assert 0 < len(between(path, 10, 12, 500) or b"") <= 500


@settings(deadline=None, max_examples=50)
@given(steps=STEPS, lines=some.integers(1, 80), padding=some.sampled_from([0, 997]))
def test_a_sample_is_in_order_with_both_ends(steps: list[int], lines: int, padding: int, tmp_path_factory) -> None:
    path = log(tmp_path_factory.mktemp("log"), steps, padding)
    found = [orjson.loads(line)["step"] for line in sampled(path, lines)]
    assert found == sorted(set(found)) and set(found) <= set(steps) and len(found) <= lines
    if steps:
        assert found[-1] == steps[-1] and (lines == 1 or found[0] == steps[0])


@settings(deadline=None, max_examples=50)
@given(steps=STEPS, limit=some.integers(1, 3000))
def test_a_log_read_piece_by_piece_is_the_log(steps: list[int], limit: int, tmp_path_factory) -> None:
    path = log(tmp_path_factory.mktemp("log"), steps, 7)
    tail, found = JsonlTail(path), []
    while len(columns := tail.read_columns(limit)):
        found += columns["step"].tolist()
        if len(found) == len(steps):
            assert tail.left == 0
    assert found == steps


def test_a_range_the_wrong_way_round_holds_nothing(tmp_path: Path) -> None:
    assert between(log(tmp_path, list(range(1, 1000))), 300, 100, 1 << 30) == b""
