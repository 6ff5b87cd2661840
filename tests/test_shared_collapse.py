"""Threshold verdicts: what must alarm, what must stay silent, and when each is dated."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.collapse import HEALTHY, Thresholds, judge
from shared.reader import JsonlTail
from shared.writer import encode_line

HEALTHY_ROW = {
    "kl": 5.0, "mi_gauss": 4.0, "active_units": 40, "active_ratio": 0.625, "active_ratio_variance": 1.0,
    "posterior_variance": 0.4, "decoder_reliance": 0.8, "patients": 256, "latent_dims": 64,
}  # fmt: skip
COLLAPSED = {"kl": 0.02, "mi_gauss": 0.01, "active_units": 0, "active_ratio": 0.0, "posterior_variance": 0.999}


def probes(*changes: dict[str, Any], every: int = 200) -> list[dict[str, Any]]:
    """One row per argument: the healthy row with these values changed, at steps 200, 400, ..."""
    return [{**HEALTHY_ROW, **change, "step": every * (i + 1)} for i, change in enumerate(changes)]


def test_healthy() -> None:
    assert judge(probes({}, {}, {})) is HEALTHY
    assert HEALTHY.severity == "ok"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (COLLAPSED, "collapse"),
        ({"active_ratio": 0.09}, "collapse"),
        ({"mi_gauss": 0.05, "kl": 0.3}, "collapse"),
        ({"mi_gauss": 0.01, "active_ratio": 0.0, "kl": 8.0}, "constant_shift"),
        ({"kl": 641.0}, "kl_explosion"),
        ({"decoder_reliance": 0.019}, "decoder_ignores_latent"),
        ({"decoder_reliance": -0.01, "kl": 2.4, "active_ratio": 1.0}, "decoder_ignores_latent"),
    ],
)
def test_what_must_alarm(change: dict[str, float], kind: str) -> None:
    verdict = judge(probes({}, change, change, change))
    assert (verdict.kind, verdict.severity) == (kind, "alarm")
    assert (verdict.began, verdict.seen) == (400, 800)
    assert verdict.remedy and verdict.detail and verdict.evidence


@pytest.mark.parametrize(
    "change",
    [
        {"active_ratio": 0.10, "mi_gauss": 0.10},
        {"kl": 640.0},
        {"decoder_reliance": 0.02},
        {"decoder_reliance": None},
        {"mi_gauss": None, "active_ratio": None},
    ],
)
def test_at_the_limit_or_unknown_is_silent(change: dict[str, float | None]) -> None:
    assert judge(probes(change, change, change)) is HEALTHY


@pytest.mark.parametrize(
    "change",
    [
        {"posterior_variance": 0.0025, "active_ratio_variance": 0.0},  # the most informative posterior; both older rules fire
        {"posterior_variance": 0.09},
        {"posterior_variance": 1.0, "active_ratio_variance": 1.0},
        {"kl": 150.0},  # "over 100 is over-regularised" does not scale with the dimensions: 2.3 nats each are fine
    ],
)
def test_older_rules_alone_raise_nothing(change: dict[str, float]) -> None:
    assert judge(probes(change, change, change, change)) is HEALTHY


def test_total_collapse_that_the_older_rules_call_healthy_alarms() -> None:
    fooled = {**COLLAPSED, "posterior_variance": 1.0, "active_ratio_variance": 1.0}
    assert judge(probes({}, fooled, fooled, fooled)).severity == "alarm"


def test_persistence_from_warning_to_alarm() -> None:
    rows = probes({}, *[COLLAPSED] * 5)
    verdicts = [judge(rows[:count]) for count in range(1, 7)]
    assert [verdict.severity for verdict in verdicts] == ["ok", "warning", "warning", "alarm", "alarm", "alarm"]
    assert [(verdict.began, verdict.seen) for verdict in verdicts[3:]] == [(400, 800)] * 3, "the date does not drift"


def test_streak_that_broke_off_starts_again() -> None:
    verdict = judge(probes(COLLAPSED, COLLAPSED, {}, COLLAPSED))
    assert (verdict.severity, verdict.began) == ("warning", 800)
    assert judge(probes(COLLAPSED, COLLAPSED, COLLAPSED, {})) is HEALTHY


def trace(active: dict[int, int], *, dims: int = 64, **values: float) -> list[dict[str, Any]]:
    """Evaluations of a run with so many active units of `dims` at these steps."""
    return [
        {**HEALTHY_ROW, "step": step, "active_ratio": count / dims, "mi_gauss": 0.05 * count, "latent_dims": dims, **values}
        for step, count in active.items()
    ]


def severities(rows: list[dict[str, Any]], warmup: int) -> dict[int, str]:
    """What is said after each evaluation."""
    return {row["step"]: judge(rows[: i + 1], warmup).severity for i, row in enumerate(rows)}


# Active units of 64 as measured on PhysioNet, held-out sets, beta warm-up over 200 of 600 steps; between the measured steps
# (h_t: 75 and 300; bypass: 100, 150 and 300) by straight lines, before them from an encoder that still carried something.
H_T = {25: 40, 50: 12, 75: 1, 100: 3, 125: 5, 150: 6, 175: 6, 200: 6, 225: 12, 250: 25, 275: 38, 300: 51, 600: 41}
BYPASS = {50: 60, 100: 52, 150: 8, 200: 5, 250: 2, 300: 0, 350: 0, 400: 0, 600: 0}


def test_a_dip_that_recovers_never_alarms() -> None:
    """The decoder on h_t at beta 1."""
    said = severities(trace(H_T), 200)
    assert set(said.values()) == {"ok", "info"}
    assert said[75] == "info" and said[300] == "ok"
    never_active_before = {step: count for step, count in H_T.items() if step >= 75} | {225: 6, 250: 6, 275: 6}
    assert set(severities(trace(never_active_before), 200).values()) == {"ok", "info"}


def test_a_bypass_alarms_early() -> None:
    said = severities(trace(BYPASS), 200)
    assert said[150] == "ok" and said[200] == "info" and said[250] == "warning"
    assert next(step for step, severity in said.items() if severity == "alarm") <= 350
    finer = severities(
        trace({25: 64, 50: 62, 75: 58, 100: 52, 125: 30, 150: 8, 175: 6, 200: 5, 225: 3, 250: 2, 275: 1, 300: 0}), 200
    )
    assert next(step for step, severity in finer.items() if severity == "alarm") <= 300


@pytest.mark.parametrize("beta", ["too high from the start", "and a bypass"])
def test_never_active_alarms_after_the_warm_up(beta: str) -> None:
    """z_t only at beta 5, or with the bypass: 0 active from step 50."""
    said = severities(trace(dict.fromkeys(range(50, 601, 50), 0)), 200)
    assert [step for step, severity in said.items() if severity == "info"] == [50, 100, 150, 200, 250, 300]
    assert said[450] == "alarm", beta


@pytest.mark.parametrize("every", [10, 50, 200])
def test_initialisation_without_a_warm_up_is_silent(every: int) -> None:
    """Constant beta, or a module of somebody else: an untrained encoder that needs nine evaluations to carry something."""
    counts = dict.fromkeys(range(every, 8 * every, every), 0) | {8 * every: 3, 9 * every: 5, 10 * every: 30, 11 * every: 60}
    assert "alarm" not in severities(trace(counts), 0).values()
    dead = severities(trace(dict.fromkeys(range(every, 11 * every, every), 0)), 0)
    assert list(dead.values()) == ["info"] * 7 + ["warning"] * 2 + ["alarm"]


def test_a_beta_step_in_mid_run_alarms_at_the_third_evaluation() -> None:
    said = severities(trace({200: 60, 400: 61, 600: 60, 800: 0, 1000: 0, 1200: 0}), 200)
    assert list(said.values()) == ["ok", "ok", "ok", "warning", "warning", "alarm"]


@pytest.mark.parametrize(
    "healthy",
    [
        {"kl": 50.4, "active_ratio": 1.0, "posterior_variance": 0.34},  # z_t only, beta 0.1
        {"kl": 2.8, "active_ratio": 62 / 64, "posterior_variance": 0.93},  # beta 1
        {"kl": 24.7, "active_ratio": 1.0, "posterior_variance": 0.66},  # h_t, beta 0.1
        {"kl": 1.7, "active_ratio": 41 / 64, "posterior_variance": 0.96},  # beta 1
    ],
)
def test_healthy_ends_of_the_table_are_silent(healthy: dict[str, float]) -> None:
    rows = probes(*[{**healthy, "mi_gauss": 0.9 * healthy["kl"]}] * 5)
    assert set(severities(rows, 200).values()) == {"ok"}


@pytest.mark.parametrize(
    ("collapsed", "kind"),
    [
        ({"kl": 0.11, "active_ratio": 2 / 64, "posterior_variance": 0.999}, "collapse"),  # z_t only, beta 5
        ({"kl": 0.12, "active_ratio": 6 / 64, "posterior_variance": 0.996}, "collapse"),  # h_t, beta 5
        ({"kl": 0.089, "active_ratio": 0.0, "posterior_variance": 0.996}, "collapse"),  # bypass, beta 1
        ({"kl": 0.027, "active_ratio": 0.0, "posterior_variance": 0.999}, "collapse"),  # bypass, beta 5
        ({"kl": 2.4, "active_ratio": 1.0, "decoder_reliance": 0.01}, "decoder_ignores_latent"),  # bypass under free bits
    ],
)
def test_collapsed_ends_of_the_table_alarm(collapsed: dict[str, float], kind: str) -> None:
    verdict = judge(probes(*[{**collapsed, "mi_gauss": 0.9 * collapsed["kl"]}] * 5), 200)
    assert (verdict.kind, verdict.severity) == (kind, "alarm")


def test_evidence_from_the_quiet_time_does_not_count_toward_an_alarm() -> None:
    rows = probes(*[COLLAPSED] * 14)
    verdicts = {count: judge(rows[:count], beta_warmup_steps=1000) for count in (7, 8, 9, 10, 14)}
    assert [verdict.severity for verdict in verdicts.values()] == ["info", "warning", "warning", "alarm", "alarm"]
    assert (verdicts[14].began, verdicts[14].seen) == (200, 2000), "the date does not drift"
    assert "Still early" in verdicts[7].detail and verdicts[7].title == "Watching: posterior collapse"
    assert verdicts[7].remedy is None, "nothing to do yet"


def test_explosion_alarms_inside_the_warm_up() -> None:
    assert severities(probes(*[{"kl": 9000.0}] * 8), 5000)[1600] == "alarm"


LEVELS = {"active_ratio_level_1": 0.9, "mi_gauss_level_1": 4.0, "active_ratio_level_2": 0.8, "mi_gauss_level_2": 2.0}
DEAD_SECOND = {**LEVELS, "active_ratio_level_2": 0.05, "mi_gauss_level_2": 0.02, "active_ratio": 0.47}


def test_one_dead_level_is_a_partial_collapse() -> None:
    rows = probes(LEVELS, DEAD_SECOND, DEAD_SECOND, DEAD_SECOND)
    assert list(severities(rows, 0).values()) == ["ok", "warning", "warning", "alarm"]
    verdict = judge(rows)
    assert (verdict.kind, verdict.title) == ("partial_collapse", "Partial collapse: level 2 carries nothing")
    assert judge(probes(*[DEAD_SECOND] * 5), 5000).severity == "info", "quiet while the warm-up lasts"


@pytest.mark.parametrize("change", [{"active_ratio_level_2": 0.2}, {"mi_gauss_level_2": 0.2}, {"mi_gauss_level_2": None}])
def test_a_level_that_carries_a_little_is_silent(change: dict[str, float | None]) -> None:
    assert judge(probes(LEVELS, *[{**DEAD_SECOND, **change}] * 4)) is HEALTHY


def test_total_collapse_is_not_called_partial() -> None:
    dead = {**COLLAPSED, **DEAD_SECOND, "active_ratio": 0.0}
    assert judge(probes(LEVELS, dead, dead, dead)).kind == "collapse"


@pytest.mark.parametrize("patients", [31, 4, 0, None, math.nan])
def test_too_few_patients_is_no_number(patients: float | None) -> None:
    verdict = judge(probes(*[{**COLLAPSED, "patients": patients}] * 3))
    assert (verdict.kind, verdict.severity) == ("insufficient", "info")


def test_no_probe_yet() -> None:
    assert judge([]).kind == "insufficient"
    assert judge([{"step": 5, "loss": 1.0}]).kind == "insufficient"


def test_nonfinite_alarms_at_once_even_in_the_warm_up() -> None:
    verdict = judge(probes({}, {"kl": None, "nonfinite": ["kl", "recon"]}), beta_warmup_steps=10**6)
    assert (verdict.kind, verdict.severity, verdict.began, verdict.seen) == ("nonfinite", "alarm", 400, 400)
    assert "kl, recon" in verdict.detail


def test_recovered_from_nonfinite() -> None:
    assert judge(probes({"kl": None, "nonfinite": ["kl"]}, {})) is HEALTHY


def test_most_serious_verdict_wins() -> None:
    everything = {**COLLAPSED, "kl": 10**6, "decoder_reliance": 0.0}
    assert judge(probes(everything, everything, everything)).kind == "kl_explosion"


def test_limits_can_be_moved() -> None:
    rows = probes({}, {"active_ratio": 0.5})
    assert judge(rows, limits=Thresholds(active_ratio=0.6, persistence=1)).severity == "alarm"


@pytest.mark.parametrize("nonfinite", [False, True])
def test_rows_may_come_from_a_file_by_frame(tmp_path: Any, nonfinite: bool) -> None:
    """A frame fills gaps with NaN, which is true; that must not read as a NaN alarm on healthy rows."""
    rows = probes({"kl": math.nan}, {}, {"kl": math.nan} if nonfinite else {})
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(b"".join(encode_line(row.pop("step"), row) for row in rows))
    frame = JsonlTail(path).read_frame()
    assert (
        judge(frame.to_dict("records")).kind == judge(JsonlTail(path).read()).kind == ("nonfinite" if nonfinite else "healthy")
    )


def test_numbers_may_be_numpy_scalars() -> None:
    rows = [{name: np.float32(value) for name, value in row.items()} for row in probes(COLLAPSED, COLLAPSED, COLLAPSED)]
    assert judge(rows).kind == "collapse"
    assert judge(list(pd.DataFrame(probes({}, {}, {})).astype("int64").T.to_dict().values())).kind == "collapse"
