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
    assert judge(probes(fooled, fooled, fooled)).kind == "collapse"


def test_persistence_from_warning_to_alarm() -> None:
    rows = probes({}, *[COLLAPSED] * 5)
    verdicts = [judge(rows[:count]) for count in range(1, 7)]
    assert [verdict.severity for verdict in verdicts] == ["ok", "warning", "warning", "alarm", "alarm", "alarm"]
    assert [(verdict.began, verdict.seen) for verdict in verdicts[3:]] == [(400, 800)] * 3, "the date does not drift"


def test_streak_that_broke_off_starts_again() -> None:
    verdict = judge(probes(COLLAPSED, COLLAPSED, {}, COLLAPSED))
    assert (verdict.severity, verdict.began) == ("warning", 800)
    assert judge(probes(COLLAPSED, COLLAPSED, COLLAPSED, {})) is HEALTHY


def test_silent_at_the_start_of_the_warm_up() -> None:
    verdict = judge(probes(*[COLLAPSED] * 5), beta_warmup_steps=5000)  # the last at step 1000, a fifth of 5000
    assert (verdict.kind, verdict.severity) == ("collapse", "info")
    assert "warm-up" in verdict.detail


def test_evidence_from_the_silent_time_does_not_count_toward_an_alarm() -> None:
    verdicts = [judge(probes(*[COLLAPSED] * count), beta_warmup_steps=5000) for count in (5, 6, 7, 8)]
    assert [verdict.severity for verdict in verdicts] == ["info", "warning", "warning", "alarm"]
    assert (verdicts[-1].began, verdicts[-1].seen) == (200, 1600)


def test_recovery_during_the_warm_up_never_alarms() -> None:
    rows = probes(*[COLLAPSED] * 4, {}, {})
    assert all(judge(rows[:count], beta_warmup_steps=5000).severity in ("ok", "info") for count in range(1, 7))


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
    rows = probes({}, {}, {})
    assert judge(rows, limits=Thresholds(active_ratio=0.7, persistence=1)).severity == "alarm"


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
