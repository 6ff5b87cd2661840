"""What the queue and the form are made of, as data: devices, places in the queue, logs, drafts, data sets."""

import json
import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watchdog.events import FileModifiedEvent

from dashboard.jobs.data import find, look
from dashboard.jobs.devices import KEY as DEVICES
from dashboard.jobs.devices import Devices, parse_gpus, read_gpus, visible
from dashboard.jobs.draft import Draft, from_checkpoint, from_preset, from_run, from_words
from dashboard.jobs.form_fields import matching
from dashboard.jobs.log import as_text, tail
from dashboard.jobs.record import KEY, Job, JobFolder, JobState, command_line, parse_device
from dashboard.jobs.schedule import place, title
from dashboard.jobs.view import lost_by_kill, row
from dashboard.jobs.words import check
from dashboard.runs.watch import touched
from dashboard.service import Service
from shared.dataset import DatasetInfo
from shared.errors import InputError
from shared.writer import write_record
from tests.run_factory import make_run

CARDS = "0, GPU-aaa, NVIDIA H100 80GB HBM3, 61200, 81559, 97\n1, GPU-bbb, NVIDIA A100, SXM4, 4, 81559, [N/A]\nnonsense\n"


def job(name: str, device: str, state: JobState = JobState.QUEUED, lanes: list[str] | None = None) -> Job:
    return Job(id=name, words=["train", "--run_name", name], device=device, host="h", order=1, state=state, lanes=lanes or [])


def test_cards_are_read_whatever_the_driver_does_not_say() -> None:
    first, second = parse_gpus(CARDS, "GPU-aaa, 4711\nGPU-aaa, 4712\n")
    assert (first.index, first.name, first.used_mib, first.utilisation, first.processes) == (
        0,
        "NVIDIA H100 80GB HBM3",
        61200,
        97,
        2,
    )
    assert (second.name, second.utilisation, second.processes) == ("NVIDIA A100, SXM4", None, 0)
    assert first.memory == "59.8 of 80 GiB memory" and round(first.memory_share, 2) == 0.75


@given(st.text(max_size=200))
def test_any_answer_of_nvidia_smi_is_survived(text: str) -> None:
    for gpu in parse_gpus(text, text):
        assert gpu.memory and gpu.index >= 0


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "nvidia-smi failed: Failed to initialize NVML",
        ),
        ("exit 9", "nvidia-smi failed: exit status 9"),
        ("exec sleep 60", "nvidia-smi did not answer within"),
    ],
)
def test_a_broken_driver_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
    if "sleep" in script:  # the others have all the time to answer
        monkeypatch.setattr("dashboard.jobs.devices.TIMEOUT_S", 0.3)
    assert says in str(read_gpus(fake_smi(tmp_path, script))[1])


def fake_smi(folder: Path, script: str) -> dict[str, str]:
    """An environment in which this script is nvidia-smi."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_load_is_looked_at_at_most_every_few_seconds_and_only_given_cards_count(tmp_path: Path) -> None:
    script = f"echo $1 >> {tmp_path}/calls\ncase $1 in --query-gpu*) printf '{CARDS.encode('unicode_escape').decode()}';; esac"
    devices = Devices(fake_smi(tmp_path, script) | {"CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.index for gpu in devices.look().gpus] == [1]
    assert devices.look() is devices.look()
    assert len((tmp_path / "calls").read_text().splitlines()) == 2, "one look: cards, and what runs on them"
    machine = devices.look()
    assert machine.cores >= 1 and 0 <= machine.cpu_percent <= 100 and 0 < machine.used_bytes < machine.total_bytes
    assert Devices({"PATH": ""}).look().problem is None, "a machine without NVIDIA's program has no GPU, and nothing is wrong"


def test_cards_that_a_batch_system_gave_may_be_named_by_uuid() -> None:
    gpus = parse_gpus(CARDS)
    assert visible(gpus, None) == gpus and visible(gpus, "") == ()
    assert [gpu.index for gpu in visible(gpus, "GPU-bbb")] == [1]


def test_places_in_the_queue() -> None:
    running = job("a", "gpu:0", JobState.RUNNING, ["gpu 0"])
    both, next_one, any_one, cpu, side = (
        job("b", "gpu:0,1"),
        job("c", "gpu:1"),
        job("d", "gpu"),
        job("e", "cpu"),
        job("f", "analysis"),
    )
    found = place([running, both, next_one, any_one, cpu, side], [0, 1])
    assert found.lanes == {"e": ["cpu"], "f": ["analysis"]}
    assert found.reasons["b"] == "waiting for GPU 0: job train a"
    assert found.reasons["c"] == "waiting for GPU 1: job train b, which is before it", "or both would wait for ever"
    assert found.reasons["d"].startswith("waiting for any GPU: job train a, job train b")
    assert place([any_one], [1, 0]).lanes == {"d": ["gpu 1"]}
    assert "GPU 3 cannot be seen" in place([job("x", "gpu:3")], [0]).reasons["x"]
    assert "no GPU can be seen" in place([any_one], []).reasons["d"]


@pytest.mark.parametrize("device", ["tpu", "gpu:", "gpu:a", "gpu:0,0", "gpu:-1", "cpu:0", "gpu:²"])
def test_devices_that_are_none(device: str) -> None:
    with pytest.raises(InputError, match="expected cpu, analysis, gpu"):
        parse_device(device)


def test_titles_say_what_a_job_is_about() -> None:
    def of(*words: str) -> str:
        return title(job("x", "cpu").model_copy(update={"words": list(words)}))

    assert of("train", "--data_dir", "/data/p12", "--run_name", "mine") == "train mine"
    assert of("train", "--resume_from_checkpoint", "/runs/old/checkpoints/last.ckpt") == "train old from last.ckpt"
    assert of("resume", "/runs/old", "--remedy", "beta_cut") == "resume old"
    assert of("preflight", "--data_dir", "/data/p12/") == "preflight p12"


def test_rows_hold_names_as_text() -> None:
    shown = row(
        job("x", "cpu").model_copy(update={"words": ["train", "--run_name", "<img src=x>"], "reason": "<b>"}), "h", "<i>"
    )
    assert "<img" not in shown and "<i>" not in shown and "&lt;img src=x&gt;" in shown


def test_what_a_kill_costs_is_said() -> None:
    assert "230 steps are lost" in lost_by_kill(730, 500)
    assert "nothing is lost but" in lost_by_kill(500, 500)
    assert "all of it is lost" in lost_by_kill(30, None) and "no step yet" in lost_by_kill(None, None)


def test_logs_are_text_and_of_a_progress_bar_the_last_state() -> None:
    assert (
        as_text(b"\x1b[32mok\x1b[0m\n 10%|#   |\r 50%|##  |\r100%|####|\n\x1b]0;title\x07end\x1b[?25h") == "ok\n100%|####|\nend"
    )
    assert as_text(b"first\rsecond\r\nthird\r") == "second\nthird"


@given(st.binary(max_size=400))
def test_any_log_becomes_plain_lines(data: bytes) -> None:
    text = as_text(data)
    assert not any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in text)
    assert text.count("\n") <= data.count(b"\n")


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(f"line {number} {'x' * 600}\n" for number in range(1000)))
    shown = tail(path).split("\n")
    assert shown[-1].startswith("line 999 ") and all(line.startswith("line ") for line in shown) and len(shown) > 100
    path.write_text("".join(f"{number}\n" for number in range(1000)))
    assert tail(path).split("\n") == [str(number) for number in range(800, 1000)]
    assert tail(tmp_path / "none.log") == ""


@given(
    st.lists(st.text(min_size=1, max_size=12).filter(lambda word: "\0" not in word), max_size=6), st.none() | st.integers(1, 60)
)
def test_the_command_shown_is_the_command_run(words: list[str], width: int | None) -> None:
    line = command_line(["train", *words], ["gpu 1"], width)
    assert shlex.split(line) == ["CUDA_VISIBLE_DEVICES=1", "python", "-m", "backend", "train", *words]


def test_a_broken_line_is_one_command_to_a_shell() -> None:
    words = ["--run_name", "it's; $(here)", "--data_dir", "x y", "--verbose"]
    line = command_line(words, width=10).replace("python -m backend", "printf '%s\\n'", 1)
    assert line.count("\\\n") == 3
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines() == words


def test_a_draft_says_only_what_differs(tmp_path: Path) -> None:
    draft = from_preset("debug", tmp_path)
    draft.enter("data_dir", "/data/x")
    draft.enter("width", "48")
    draft.enter("max_steps", "20")
    draft.enter("beta_max", "0.10")
    config, problems = draft.checked()
    assert problems == {} and config is not None
    words = draft.words(config)
    assert words[:3] == ["train", "--data_dir", "/data/x"] and words[words.index("--output_dir") + 1] == str(tmp_path)
    assert words[words.index("--width") + 1] == "48" and "--beta_max" not in words, "0.10 is the default 0.1"
    assert set(draft.typed) == {"data_dir", "width", "beta_max"}, "what is as the preset has it was not typed"
    assert "width" in draft.changed(config) and "beta_max" not in draft.changed(config)
    assert draft.words(config, "preflight")[1:] == words[1:]
    check(words, tmp_path)
    assert from_words(words, tmp_path).checked()[0] == config


def test_a_draft_from_a_run_and_from_its_checkpoint(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "old", steps=5)
    layout.checkpoints.mkdir()
    (layout.checkpoints / "last.ckpt").touch()
    again = from_run("old", tmp_path)
    config, _ = again.checked()
    assert config is not None and config.loss.beta_warmup_steps == 500 and config.output.output_dir == str(tmp_path)
    resumed = from_checkpoint("old/last.ckpt", tmp_path)
    resumed.enter("learning_rate", "1e-4")
    config, _ = resumed.checked()
    assert config is not None and resumed.fixed("width") and resumed.fixed("seed") and not resumed.fixed("learning_rate")
    words = resumed.words(config)
    assert words[:3] == ["train", "--resume_from_checkpoint", str(layout.checkpoints / "last.ckpt")]
    assert words[-2:] == ["--learning_rate", "0.0001"] and "--output_dir" not in words
    assert check(words, tmp_path) == words
    again_resumed = from_words(words, tmp_path)
    assert again_resumed.target == resumed.target and again_resumed.shown("learning_rate") == "0.0001"


@pytest.mark.parametrize("target", ["none", "..", "../x", "old/../../x", "old/x.txt", "old/none.ckpt", "old//etc/passwd.ckpt"])
def test_a_draft_from_what_is_not_there(tmp_path: Path, target: str) -> None:
    make_run(tmp_path, "old", steps=5)
    with pytest.raises(InputError, match="choose another"):
        from_checkpoint(target, tmp_path)


def test_devices_chosen_become_options(tmp_path: Path) -> None:
    draft = Draft("x", devices={"devices": 2}, runs=tmp_path)
    config, _ = draft.checked()
    assert config is not None and "--devices" in draft.words(config)


def test_options_are_found_by_name_and_by_what_they_do() -> None:
    assert matching("beta max")[0].name == "beta_max"
    assert matching("gradient clip")[0].name == "gradient_clip_val"
    assert "free_bits" in [each.name for each in matching("KL floor")]
    assert matching("no such thing") == [] and "output_dir" not in [each.name for each in matching("folder")]


def test_data_sets_are_found_in_places_and_by_path(tmp_path: Path) -> None:
    made = DatasetInfo(
        name="demo", source="simulate", simulated=True, fingerprint="0", seed=0, stays={"train": 8}, sets=1, events=1,
        labels={"died": {"known": 8, "positive": 2}}, variables=[],
    )  # fmt: skip
    for name in ("places/one", "places/two", "elsewhere", "places/.hidden"):
        (tmp_path / name).mkdir(parents=True)
        write_record(tmp_path / name / "dataset.json", made)
    (tmp_path / "places/older/patient_ehr").mkdir(parents=True)
    (tmp_path / "places/two/dataset.json").write_text("{")
    found = find([tmp_path / "places", tmp_path / "none"], [str(tmp_path / "elsewhere"), str(tmp_path / "places/one"), "gone"])
    assert [each.path.name for each in found] == ["older", "one", "two", "elsewhere"]
    assert "not valid JSON" in (found[2].problem or "") and found[1].info == made and found[0].info is found[0].problem is None
    assert "not a prepared data set" in (look(tmp_path).problem or "")
    assert find([tmp_path / "elsewhere"])[0].title.startswith("demo · 8 stays · ")


def test_a_printed_line_wakes_those_who_look_at_jobs_and_nobody_else(tmp_path: Path) -> None:
    log = tmp_path / KEY / "jobs" / "20260101-000000-abcd.log"
    assert touched(tmp_path, FileModifiedEvent(str(log))) == {KEY}


def test_messages_say_which_records_changed_and_how_much_was_printed(tmp_path: Path) -> None:
    hub = Service(tmp_path)
    assert set(hub.describe(KEY)) == {"jobs"} and set(hub.describe(DEVICES)) == {"load"}
    running = job("20260101-000000-abcd", "cpu", JobState.RUNNING, ["cpu"])
    with hub.jobs.folder.locked():
        hub.jobs.folder.write(running)
    hub.jobs.folder.file(running.id, ".log").write_text("hello")
    first = hub.describe(KEY)
    assert first[f"log {running.id}"] == 5
    hub.jobs.folder.file(running.id, ".log").write_text("hello again")
    second = hub.describe(KEY)
    assert second["jobs"] == first["jobs"] and second[f"log {running.id}"] == 11, "a line printed does not redraw the list"
    assert hub.jobs.would_wait("cpu") is None, "a job of another machine holds no device of this one"


@pytest.mark.parametrize("change", [{"device": "gpu:0,0"}, {"words": []}, {"state": "flying"}])
def test_records_edited_by_hand_are_named_and_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    folder = JobFolder(tmp_path)
    kept = job("20260101-000000-abcd", "cpu")
    with folder.locked():
        folder.write(kept)
    path = folder.file(kept.id, ".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    found, problems = folder.all()
    assert found == [] and f"field {next(iter(change))}" in problems[0]
