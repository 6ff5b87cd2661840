"""What the trainer says of a run while it goes on is what a page says of its folder."""

import math
from pathlib import Path
from typing import Any

import pytest

from backend.judging import Judging
from backend.recorder import RunRecorder
from dashboard.charts import Look
from dashboard.header import header
from dashboard.loading import RunLog
from dashboard.panels import DECODER, POSTERIOR, figure
from dashboard.summaries import Summaries
from dashboard.verdicts import verdicts
from shared.collapse import Verdict
from shared.config import build_config
from shared.layout import RunLayout
from shared.schema import RunInfo, RunState
from shared.verdicts import beta_warmup, judge_run, unwatched

PROBE = {"kl": 5.0, "mi_gauss": 4.0, "active_ratio": 0.6, "decoder_reliance": 0.8, "patients": 256, "latent_dims": 64}
DEAD = {**PROBE, "kl": 0.02, "mi_gauss": 0.01, "active_ratio": 0.0}
STEP = {"loss": 3.0, "kl": 1.0, "grad_norm": 2.0}


def config(**options: Any) -> dict[str, Any]:
    return build_config(options).model_dump(mode="json")


def play(folder: Path, options: dict[str, Any], probes: dict[int, dict[str, Any]], steps: dict[int, dict[str, Any]]) -> Judging:
    """A run whose trainer records and judges these rows, in the order of their steps."""
    recorder = RunRecorder(RunLayout(folder), RunInfo(name=folder.name, config=options))
    folder.mkdir()
    recorder.begin()
    judging = Judging(recorder)
    recorder.on_nonfinite = judging.nonfinite
    for step in sorted({*probes, *steps}):
        for name, value in steps.get(step, STEP).items():
            recorder.put(name, value)
        recorder.commit(step)
        if step in probes:
            recorder.evaluation("probe", step, probes[step])
            judging.add(step, probes[step])
    recorder.end(RunState.FINISHED)
    return judging


def seen_by_page(folder: Path) -> Verdict:
    return verdicts(RunLog(RunLayout(folder)).snapshot(1))[0]


EVERY_50 = range(50, 601, 50)
CASES: dict[str, tuple[dict[str, Any], dict[int, dict[str, Any]], dict[int, dict[str, Any]], tuple[str, str]]] = {
    "healthy": (config(), dict.fromkeys(EVERY_50, PROBE), {}, ("healthy", "ok")),
    "warm-up": (config(), {50: PROBE} | dict.fromkeys(EVERY_50[1:], DEAD), {}, ("collapse", "info")),
    "constant beta has no warm-up": (
        config(beta_schedule="constant"), {50: PROBE} | dict.fromkeys(EVERY_50[1:], DEAD), {}, ("collapse", "alarm"),
    ),
    "warm-up of a foreign run": (
        {"loss": {"beta_warmup_steps": 5000}}, {50: PROBE} | dict.fromkeys(EVERY_50[1:], DEAD), {}, ("collapse", "info"),
    ),
    "nothing known": ({}, {50: PROBE} | dict.fromkeys(EVERY_50[1:], DEAD), {}, ("collapse", "alarm")),
    "infinite gradient of a loss scaler": (config(), {50: PROBE}, {50: {**STEP, "grad_norm": math.inf}}, ("healthy", "ok")),
    "infinite KL of finite latents": (config(), {50: PROBE, 100: {**PROBE, "kl": math.inf}}, {}, ("nonfinite", "alarm")),
    "NaN loss at the end": (config(), {50: PROBE}, {60: {**STEP, "loss": math.nan}}, ("nonfinite", "alarm")),
    "NaN loss that went by": (config(), {50: PROBE, 100: PROBE}, {60: {**STEP, "loss": math.nan}}, ("nonfinite", "warning")),
    "fine-tuning": (config(stage="finetune"), {}, {60: {**STEP, "loss": math.nan}}, ("nonfinite", "alarm")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_trainer_and_page_say_the_same(tmp_path: Path, case: str) -> None:
    options, probes, steps, expected = CASES[case]
    judging = play(tmp_path / "run", options, probes, steps)
    page = seen_by_page(tmp_path / "run")
    assert judging.verdict is not None
    assert (judging.verdict.kind, judging.verdict.severity) == expected
    assert (page.kind, page.severity) == expected
    assert (page.began, page.seen, page.detail) == (judging.verdict.began, judging.verdict.seen, judging.verdict.detail)


@pytest.mark.parametrize("case", ["NaN loss that went by", "constant beta has no warm-up"])
def test_a_resumed_trainer_knows_what_was(tmp_path: Path, case: str) -> None:
    options, probes, steps, expected = CASES[case]
    play(tmp_path / "run", options, probes, steps)
    again = Judging(RunRecorder(RunLayout(tmp_path / "run"), RunInfo(name="run", config=options)))
    assert again.verdict is not None and (again.verdict.kind, again.verdict.severity) == expected


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
    assert words in header(snapshot) and "after a few hundred steps" not in header(snapshot)
    assert Summaries(tmp_path).all()[0].concern == verdicts(snapshot)[0]
    for panel in (*POSTERIOR, *DECODER):
        assert figure(snapshot, panel, Look()).layout.annotations[0].text == words, panel.metric


def test_beta_warm_up_of_any_configuration() -> None:
    assert beta_warmup(config()) == 5000
    assert beta_warmup(config(beta_schedule="cyclical", beta_warmup_steps=100)) == 100
    assert beta_warmup(config(beta_schedule="constant")) == 0
    assert [beta_warmup(odd) for odd in ({}, {"loss": 3}, {"loss": {}}, {"loss": {"beta_warmup_steps": "x"}})] == [0] * 4
    assert unwatched({"trainer": "x"}) is None


def test_what_was_measured_counts_whatever_the_options_say() -> None:
    """A run that began with the monitor and went on without it keeps its verdict."""
    off = config(disable_metrics_monitoring=True, beta_schedule="constant")
    rows = [{**PROBE, "step": 50}, *({**DEAD, "step": step} for step in (100, 150, 200))]
    assert judge_run(off, rows, {}, 200)[0].kind == "collapse"
