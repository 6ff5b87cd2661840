"""Runs that grow with the log they are imported from: by whatever clock it counts, and also when it vanishes."""

import shutil
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from backend.tensorboard_follow import follow
from backend.tensorboard_logs import LogReader
from backend.tensorboard_run import LogImport
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import Health, JsonlTail, read_status
from shared.schema import RunState
from tests.test_tensorboard_import import log_run, log_step, rows
from tests.test_tensorboard_logs import scalar, write_events


def test_a_growing_log_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunLayout(tmp_path / "runs/vae")
    seen: list[tuple[int, Health]] = []
    with SummaryWriter(tmp_path / "vae") as writer:
        for step in range(1, 31):
            log_step(writer, step)
        writer.flush()
        made = LogImport(LogReader(tmp_path / "vae"), run)
        made.reader.read()
        made.write(RunState.RUNNING)

        def wait(_seconds: float) -> None:
            seen.append((len(rows(run)), read_status(run).health))
            if len(seen) == 4:
                raise KeyboardInterrupt
            for step in range(1 + 30 * len(seen), 31 + 30 * len(seen)):
                log_step(writer, step)
            writer.flush()

        follow([made], wait)
    assert seen == [(29, Health.RUNNING), (59, Health.RUNNING), (89, Health.RUNNING), (119, Health.RUNNING)], (
        "the newest is held back"
    )
    assert [row["step"] for row in rows(run)] == list(range(1, 121)) and len(rows(run, "validation")) == 12
    assert all("recon" in row and "my own/x" in row for row in rows(run)), "no line was written before it was whole"
    assert read_status(run).health is Health.FINISHED
    assert any(event["kind"] == "verdict" for event in JsonlTail(run.events).read())


def test_a_training_that_is_resumed_while_it_is_followed_starts_the_log_again(tmp_path: Path) -> None:
    log, run = log_run(tmp_path / "vae", 30), RunLayout(tmp_path / "runs/vae")
    made = LogImport(LogReader(log), run)
    made.reader.read()
    made.write(RunState.RUNNING)
    looks = []

    def wait(_seconds: float) -> None:
        looks.append(len(rows(run)))
        if len(looks) == 2:
            raise KeyboardInterrupt
        write_events(
            log, *(scalar(step, "train/kl", 9.0) for step in range(20, 26)), name="events.out.tfevents.9999999999.host"
        )

    follow([made], wait)
    steps = {row["step"]: row.get("kl") for row in rows(run)}
    assert steps[19] == pytest.approx(0.01) and steps[20] == 9.0 and steps[25] == 9.0


def followed(log: Path, run: RunLayout) -> list[LogImport]:
    made = LogImport(LogReader(log), run)
    made.reader.read()
    made.write(RunState.RUNNING)
    return [made]


@pytest.mark.parametrize("tag", ["val/auroc", "train/each_epoch"])
def test_what_is_logged_by_epoch_comes_as_it_is_logged(tmp_path: Path, tag: str) -> None:
    """Training counts iterations, a hundred an epoch, what is logged after each epoch has the epoch as its step."""
    run, seen = RunLayout(tmp_path / "runs/vae"), []
    place, name = (None, tag) if tag.startswith("train") else ("validation", "auroc")
    with SummaryWriter(tmp_path / "vae") as writer:

        def epoch(number: int) -> None:
            for step in range(100 * number, 100 * number + 100):
                log_step(writer, step + 1)
            writer.add_scalar(tag, 0.1 * number, number)
            writer.flush()

        def wait(_seconds: float) -> None:
            seen.append([row["step"] for row in rows(run, place) if name in row and row["step"] < 10])
            if len(seen) == 5:
                raise KeyboardInterrupt
            epoch(len(seen))

        epoch(0)
        follow(followed(tmp_path / "vae", run), wait)
    assert [number in steps for number, steps in enumerate(seen[1:])] == [True] * 4, "one epoch late at most"
    found = {row["step"]: row[name] for row in rows(run, place) if name in row}
    assert [found[number] for number in range(5)] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    steps = [row["step"] for row in rows(run)]
    assert steps == sorted(set(steps)) and steps[-1] == 500


def test_only_what_is_new_is_a_sign_of_life(tmp_path: Path) -> None:
    run, signs = RunLayout(tmp_path / "runs/vae"), []
    with SummaryWriter(tmp_path / "vae") as writer:
        log_step(writer, 1)
        writer.flush()

        def wait(_seconds: float) -> None:
            signs.append(run.heartbeat.read_bytes())
            if len(signs) == 4:
                raise KeyboardInterrupt
            if len(signs) == 3:
                log_step(writer, 2)
                writer.flush()

        follow(followed(tmp_path / "vae", run), wait)
    assert signs[0] == signs[1] == signs[2] != signs[3]


@pytest.mark.parametrize("looks", [0, 2])
def test_a_log_that_vanishes_ends_its_own_run_alone(tmp_path: Path, looks: int) -> None:
    runs = [RunLayout(tmp_path / "runs" / name) for name in ("gone", "stays")]
    imports = [made for run in runs for made in followed(log_run(tmp_path / run.root.name, 20), run)]
    states = []

    def wait(_seconds: float) -> None:
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)
        states.append([read_status(run).health for run in runs])
        if len(states) > looks:
            raise KeyboardInterrupt

    assert [made.layout.root.name for made in follow(imports, wait)][-1] == "stays"
    assert looks == 0 or states[1] == [Health.FINISHED, Health.RUNNING]
    assert [read_status(run).health for run in runs] == [Health.FINISHED] * 2
    assert [row["step"] for row in rows(runs[0])] == list(range(1, 21)), "what was read stays"
    assert "its event files are gone" in " ".join(str(event["message"]) for event in JsonlTail(runs[0].events).read())


def test_following_ends_where_no_log_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imports = followed(log_run(tmp_path / "vae", 20), RunLayout(tmp_path / "runs/vae"))
    with pytest.raises(InputError, match="no log is left"):
        follow(imports, lambda _seconds: shutil.rmtree(tmp_path / "vae", ignore_errors=True))
    assert "not followed any more" in capsys.readouterr().err


def test_one_file_that_vanishes_is_named(tmp_path: Path) -> None:
    made = followed(log_run(tmp_path / "vae", 20), RunLayout(tmp_path / "runs/vae"))[0]
    kept = write_events(tmp_path / "vae", scalar(30, "train/kl", 1.0), name="events.out.tfevents.9999999999.host")
    made.reader.read()
    for path in made.reader.files():
        path.unlink() if path != kept else None
    made.reader.check()
    assert "cannot be read any more" in made.reader.log.notes[0]
