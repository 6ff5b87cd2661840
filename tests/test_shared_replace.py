"""Files that are replaced whole: a reader sees the old bytes or the new, and a resumed log has no line too many."""

import resource
import signal
import threading
from pathlib import Path

import orjson
import pytest

from shared.reader import JsonlTail, read_record
from shared.schema import Heartbeat
from shared.writer import JsonlWriter, cut_after_step, encode_line, replace_atomically, write_record


def steps(path: Path) -> list[int]:
    return [orjson.loads(line)["step"] for line in path.read_bytes().splitlines()]


def test_replace_atomically_under_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.json"
    write_record(path, Heartbeat(pid=1, host="a", step=0))
    done, read = threading.Event(), []

    def read_all_the_time() -> None:
        while not done.is_set():
            read.append(read_record(path, Heartbeat).step)

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    for step in range(500):
        write_record(path, Heartbeat(pid=1, host="a" * (step % 50 * 100), step=step), durable=step % 100 == 0)
    done.set()
    reader.join()
    assert read == sorted(read) and len(set(read)) > 5
    assert [child.name for child in tmp_path.iterdir()] == ["heartbeat.json"]


def test_threads_may_replace_the_same_file(tmp_path: Path) -> None:
    path, failed = tmp_path / "x.json", []

    def replace(letter: bytes) -> None:
        for _ in range(200):
            try:
                replace_atomically(path, letter * 5000)
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=replace, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and path.read_bytes() in (b"a" * 5000, b"b" * 5000)


def test_failed_replacement_keeps_the_old_file_and_leaves_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    replace_atomically(path, b"old")
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            replace_atomically(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["run.json"]


def test_cut_after_step_drops_later_torn_and_unreadable_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [encode_line(step, {}) for step in range(6)]
    path.write_bytes(b"".join(lines[:3]) + b"garbage\n[1]\n" + b"".join(lines[3:]) + b'{"v":1,"step":')
    assert cut_after_step(path, 3) == 5  # two unreadable, two later, one torn
    assert steps(path) == [0, 1, 2, 3]


def test_cut_after_step_with_nothing_to_cut_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert cut_after_step(path, 3) == 0
    path.write_bytes(encode_line(1, {}))
    inode = path.stat().st_ino
    assert cut_after_step(path, 1) == 0
    assert path.stat().st_ino == inode


def test_follower_starts_again_after_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)
    for step in range(6):
        writer.write(step, {})
    writer.close()
    tail = JsonlTail(path)
    assert [row["step"] for row in tail.read()] == [0, 1, 2, 3, 4, 5]
    cut_after_step(path, 2)
    resumed = JsonlWriter(path)
    for step in range(3, 9):
        resumed.write(step, {})
    resumed.close()
    assert [row["step"] for row in tail.read()] == list(range(9)) and tail.restarted
