"""What the trainer says of a run while it goes on is what a page and a replay of its folder say."""

import math
from pathlib import Path
from typing import Any

import orjson
import pytest

from backend.curves_source import source_of_run
from backend.judging import Judging
from backend.recorder import RunRecorder
from dashboard.charts import Look
from dashboard.compare.choice import load
from dashboard.compare.export import stream
from dashboard.live import panels
from dashboard.live.header import header
from dashboard.overview.summaries import Summaries
from dashboard.runs.colours import Colours
from dashboard.runs.loading import RunLog, Store
from dashboard.widgets import event_table
from shared.collapse import PRESETS, Verdict
from shared.configuring import build_config
from shared.layout import RunLayout
from shared.panels import DECODER, POSTERIOR
from shared.reader import JsonlTail, read_record
from shared.schema import RunInfo, RunState
from shared.verdicts import diagnose_run, limits_of, replay_run, unwatched, verdict_data, verdict_of
from tests.plotted import plotted
from tests.run_factory import make_run

PROBE = {"kl": 5.0, "mi_gauss": 4.0, "active_units": 40, "decoder_reliance": 0.8, "patients": 256, "latent_dims": 64}
DEAD = {**PROBE, "kl": 0.02, "mi_gauss": 0.01, "active_units": 0}
STEP = {"loss": 3.0, "kl": 1.0, "grad_norm": 2.0}
EVERY_50 = range(50, 601, 50)


def config(**options: Any) -> dict[str, Any]:
    return build_config(options).model_dump(mode="json")


def play(
    folder: Path, options: dict[str, Any], probes: dict[int, dict[str, Any]], steps: dict[int, dict[str, Any]],
    begin: int = 0, info: RunInfo | None = None,
) -> Judging:  # fmt: skip
    """A run whose trainer records and judges these rows, in the order of their steps; from `begin` where it is a resumed one."""
    folder.mkdir(exist_ok=True)
    recorder = RunRecorder(RunLayout(folder), info or RunInfo(name=folder.name, config=options, max_steps=600))
    recorder.begin(begin)
    judging = Judging(recorder)
    recorder.on_line = judging.line
    for step in sorted({*probes, *steps}):
        if step <= begin:
            continue
        if step in probes:
            recorder.evaluation("probe", step, probes[step])
            judging.add(step, probes[step])
        for name, value in steps.get(step, STEP).items():
            recorder.put(name, value)
        recorder.commit(step)
    recorder.end(RunState.INTERRUPTED)
    return judging


def seen_by_page(folder: Path) -> Verdict:
    return RunLog(RunLayout(folder)).snapshot(1).verdicts[0]


def told(folder: Path) -> list[dict[str, Any]]:
    rows = JsonlTail(RunLayout(folder).events).read()
    return [{"step": row["step"], **row["data"]} for row in rows if row["kind"] == "verdict"]


LOST = dict.fromkeys(range(50, 301, 50), PROBE) | dict.fromkeys(range(350, 601, 50), DEAD)
CLEAN = dict.fromkeys(range(61, 101), STEP)
CASES: dict[str, tuple[dict[str, Any], dict[int, dict[str, Any]], dict[int, dict[str, Any]], tuple[str, str]]] = {
    "healthy": (config(), dict.fromkeys(EVERY_50, PROBE), {}, ("healthy", "ok")),
    "warm-up": (config(), LOST, {}, ("collapse", "info")),
    "constant beta has no warm-up": (config(beta_schedule="constant"), LOST, {}, ("collapse", "alarm")),
    "warm-up of a foreign run": ({"loss": {"beta_warmup_steps": 5000}}, LOST, {}, ("collapse", "info")),
    "nothing known": ({}, LOST, {}, ("collapse", "alarm")),
    "infinite gradient of a loss scaler": (config(), {50: PROBE}, {50: {**STEP, "grad_norm": math.inf}}, ("healthy", "ok")),
    "infinite KL of finite latents": (config(), {50: PROBE, 100: {**PROBE, "kl": math.inf}}, {}, ("nonfinite", "alarm")),
    "NaN loss at the end": (config(), {50: PROBE}, {60: {**STEP, "loss": math.nan}}, ("nonfinite", "alarm")),
    "NaN loss that went by": (config(), {50: PROBE, 100: PROBE}, {60: {**STEP, "loss": math.nan}, **CLEAN}, ("healthy", "ok")),
    "fine-tuning": (config(stage="finetune"), {}, {60: {**STEP, "loss": math.nan}}, ("nonfinite", "alarm")),
    "spikes": (config(), {}, {s: {**STEP, "grad_norm": 90.0 if s > 200 and s % 10 == 0 else 2 + 0.1 * (s % 3)} for s in range(1, 301)},
               ("instability", "alarm")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_trainer_page_and_replay_say_the_same(tmp_path: Path, case: str) -> None:
    options, probes, steps, expected = CASES[case]
    judging = play(tmp_path / "run", options, probes, steps)
    page, replayed = seen_by_page(tmp_path / "run"), diagnose_run(RunLayout(tmp_path / "run"))[0]
    assert (judging.verdict.kind, judging.verdict.severity) == expected
    assert (page.kind, page.severity) == expected
    assert replayed == judging.verdict
    if expected[0] != "healthy":
        assert (page.began, page.seen) == (judging.verdict.began, judging.verdict.seen)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cut", [60, 330, 440])
def test_a_resumed_trainer_writes_the_events_of_an_undisturbed_one(tmp_path: Path, case: str, cut: int) -> None:
    """Cut at any step, the events and the verdict at the end are those of one process."""
    options, probes, steps, _ = CASES[case]
    whole = play(tmp_path / "whole", options, probes, steps)
    early = {s: row for s, row in probes.items() if s <= cut + 40}, {s: row for s, row in steps.items() if s <= cut + 40}
    play(tmp_path / "cut", options, *early)
    info = read_record(RunLayout(tmp_path / "cut").run_json, RunInfo)
    resumed = play(tmp_path / "cut", options, probes, steps, begin=cut, info=info)
    assert resumed.verdict == whole.verdict
    assert told(tmp_path / "cut") == told(tmp_path / "whole")


def test_verdicts_are_updated_not_repeated_and_cleared(tmp_path: Path) -> None:
    probes = (
        dict.fromkeys(range(50, 301, 50), PROBE)
        | dict.fromkeys(range(350, 601, 50), DEAD)
        | dict.fromkeys(range(650, 901, 50), PROBE)
    )
    judging = play(tmp_path / "run", config(beta_schedule="constant"), probes, {})
    events = [(e["step"], e["verdict"], e["severity"], e["ended"]) for e in told(tmp_path / "run")]
    assert events == [
        (50, "healthy", "ok", None), (350, "undecided", "info", None), (400, "collapse", "warning", None), (450, "collapse", "alarm", None),
        (750, "collapse", "alarm", 650), (750, "healthy", "ok", None),
    ]  # fmt: skip
    assert judging.alarm_step == 450 and judging.verdict.kind == "healthy"
    snapshot = RunLog(RunLayout(tmp_path / "run")).snapshot(1)
    assert [v.kind for v in snapshot.past] == ["collapse"] and seen_by_page(tmp_path / "run").kind == "healthy"


def test_the_limits_of_a_run_are_in_its_folder(tmp_path: Path) -> None:
    play(tmp_path / "run", config(sensitivity="strict"), {50: PROBE}, {})
    info = read_record(RunLayout(tmp_path / "run").run_json, RunInfo)
    assert limits_of(info) == PRESETS["strict"] and limits_of(info, "early") == PRESETS["early"]
    assert replay_run(RunLayout(tmp_path / "run")).limits == PRESETS["strict"]
    info.detector = None
    assert limits_of(info) == PRESETS["strict"], "older runs: the preset they name"
    info.config = {}
    assert limits_of(info) == PRESETS["balanced"]


def test_a_verdict_survives_its_event() -> None:
    verdict = Verdict(
        "partial_dimensions", "alarm", "t", "d", 1, 2, None, {"a": 1.0}, {"b": 2.0}, (3, 4), None, "c", ("beta_cut",), "x"
    )
    kept = {name: list(value) if isinstance(value, tuple) else value for name, value in verdict_data(verdict).items()}
    assert verdict_of({**kept, "of a later release": 1}) == verdict


def test_a_list_of_runs_forgives_the_scaler_too(tmp_path: Path) -> None:
    play(tmp_path / "scaler", config(), {50: PROBE}, {51: {**STEP, "grad_norm": math.inf}})
    play(tmp_path / "broken", config(), {50: PROBE}, {51: {**STEP, "kl": math.inf}})
    found = {run.name: run.concern.severity for run in Summaries(tmp_path).all() if run.concern}
    assert found == {"scaler": "ok", "broken": "alarm"}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"stage": "finetune"}, "No posterior to watch"), ({"disable_metrics_monitoring": True}, "Posterior monitoring is off")],
)
def test_a_run_without_a_posterior_to_watch_says_so(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    play(tmp_path / "run", config(**options), {}, {1: {"loss": 1.0}, 2: {"loss": 1.0}})
    snapshot = RunLog(RunLayout(tmp_path / "run")).snapshot(1)
    assert words in header(snapshot) and "within a few hundred steps" not in header(snapshot)
    assert Summaries(tmp_path).all()[0].concern == snapshot.verdicts[0]
    assert diagnose_run(RunLayout(tmp_path / "run"))[0].kind == "off"
    for panel in (*POSTERIOR, *DECODER):
        assert plotted(panels.figure(snapshot, panel, Look())).layout.annotations[0].text == words, panel.metric


def test_odd_configurations() -> None:
    assert unwatched({"trainer": "x"}) is None


GOOD = verdict_data(Verdict("collapse", "alarm", "Posterior collapse", "0 of 64", 1, evidence={"kl": 1.0}, dims=(3,)))
FORETOLD = {
    "step": 1,
    "beta_now": 0.1,
    "beta": 0.5,
    "reached_at": 9000,
    "units": 3,
    "nats": 2.0,
    "of": 64,
    "floor": {"nats": 0.0},
}
NO_FORECAST = [None, "x", {}, {**FORETOLD, "floor": 3}, {**FORETOLD, "reached_at": "soon"}, {**FORETOLD, "beta": None}]
NO_VERDICT = [
    None, [], {}, {"verdict": 3}, *({**GOOD, name: wrong} for name, wrong in (
        ("severity", "panic"), ("title", 5), ("detail", None), ("began", "soon"), ("ended", []), ("level", [1]), ("dims", 7),
        ("dims", ["a"]), ("evidence", [1]), ("evidence", {"kl": "much"}), ("thresholds", {"kl": {}}), ("remedies", [1]), ("advice", {}),
    )),
]  # fmt: skip


def add_events(layout: RunLayout, *rows: dict[str, Any]) -> None:
    with layout.events.open("ab") as file:
        file.writelines(orjson.dumps({"schema_version": 1, "step": 1, **row}) + b"\n" for row in rows)


@pytest.mark.parametrize(
    ("kind", "data"),
    [*(("verdict", data) for data in NO_VERDICT), *(("forecast", data) for data in NO_FORECAST)],
)
def test_a_damaged_event_costs_only_itself(tmp_path: Path, kind: str, data: Any) -> None:
    layout = make_run(tmp_path, "run", steps=40)
    bare = {} if data is None else {"data": data}
    last = {"kind": "verdict", "data": {**GOOD, "evidence": {"kl": None}}}
    add_events(layout, {"kind": "forecast", "data": FORETOLD}, {"kind": kind, **bare}, last)
    snapshot = RunLog(layout).snapshot(1)
    assert snapshot.verdicts[0].kind == "collapse" and snapshot.verdicts[0].evidence == {}
    assert [problem for problem in snapshot.problems if f"events.jsonl: the {kind} at step 1 cannot be read (" in problem]
    shown = header(snapshot)
    assert "Posterior collapse" in shown and "reached at step 9,000, 3 of 64 units will remain" in shown
    assert len(snapshot.events) == 5 and event_table(snapshot.events)
    assert load(["run"], Store(tmp_path, lambda _name: 1), Colours(tmp_path)).runs[0].snapshot.verdicts == snapshot.verdicts
    listed = Summaries(tmp_path).all()[0]
    assert listed.verdict == snapshot.verdicts[0] and f"the {kind} at step 1" in str(listed.status.reason)
    assert list(source_of_run(layout).verdicts) == snapshot.verdicts, "nor the report"


@pytest.mark.parametrize("names", [5, "loss", {"loss": 1}, [None], True])
def test_names_of_what_was_not_finite_that_are_no_list(tmp_path: Path, names: Any) -> None:
    layout = make_run(tmp_path, "run", steps=3)
    row = {"v": 1, "step": 4, "loss": 1.0, "kind": "probe", "kl": 2.0, "nonfinite": names}
    for path in (layout.metrics, layout.evaluations):
        with path.open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
    snapshot = RunLog(layout).snapshot(1)
    assert snapshot.last_step == 4 and snapshot.series("training", "loss")[0].tolist() == [1, 2, 3, 4]
    assert snapshot.series("probe", "kl")[1].tolist() == [2.0] and not snapshot.problems
    assert b"".join(stream([layout], [("probe", "kl")], "csv")).count(b"\n") == 2
