"""What the detector says of what is not decided: conditions that may pass, free bits, and recoveries after beta was cut."""

from dataclasses import replace

import pytest

from shared.advice import BETA_AT_LIMIT, BETA_TO_COME, BY_CAUSE, advised
from shared.detector import Detector
from tests.test_detector import CONFIG, DEAD, HEALTHY, STABLE, UNSTABLE, D, changed, said, watched


@pytest.mark.parametrize("count", [1, 2])
def test_what_has_begun_and_not_lasted_is_undecided_and_never_green(count):
    (verdict,) = watched((count, UNSTABLE)).verdicts
    assert (verdict.kind, verdict.severity, verdict.began) == ("undecided", "info", 10)
    assert "0 of 20 units are active" in verdict.detail and "3 evaluations in a row" in verdict.detail
    assert said(watched((2, UNSTABLE), (1, HEALTHY))) == ("healthy", "ok")


def test_no_active_unit_is_never_healthy_also_where_information_is_not_measured():
    assert said(watched((20, changed(active_units=0, mi_gauss=None)))) == ("undecided", "info")
    assert said(watched((20, changed(active_units=None, mi_gauss=None)))) == ("healthy", "ok"), "it was not counted"


def test_units_that_free_bits_hold_are_named():
    free = {"loss": {**CONFIG["loss"], "free_bits": 0.1, "free_bits_mode": "dimension"}}
    row = changed(active_units=D, kl=2.0, per_dim={"var_mu": [0.2] * D, "kl": [0.1] * D})
    assert "20 of 20 active, held by free bits" in watched((9, row), config=free).verdicts[0].detail
    some = {**row, "per_dim": {"var_mu": [0.2] * D, "kl": [0.1] * 19 + [0.8]}}
    assert "free bits" not in watched((9, some), config=free).verdicts[0].detail, "one carries more than is free"
    assert "free bits" not in watched((9, row)).verdicts[0].detail
    begun = watched((1, {**row, "decoder_reliance": 0.0}), config=free).verdicts[0]
    assert begun.kind == "undecided" and begun.detail.endswith("held by free bits: their KL costs nothing up to 0.1 nats each.")


CUT = {"loss": {"beta_schedule": "linear", "beta_max": 8.33, "beta_warmup_steps": 10}}
"""Of a run whose beta a remedy has cut below its plan."""


def test_an_escape_after_a_cut_of_beta_is_watched_not_alarmed():
    """Beta 8.33, cut to 1 and to 0.5; the KL grows, and the residuals hold ten times what beta costs."""
    escape = [(8.33, 0.03), (1.0, 0.06), (0.5, 0.168), (0.5, 0.3), (0.5, 0.56)]
    detector = Detector(CUT, max_steps=1000)
    for i, (beta, kl) in enumerate(escape, 1):
        row = {**DEAD, "beta": beta, "kl": kl, "mi_gauss": kl, "residual_eigenvalue": 5.07}
        detector.probe({"step": 25 * i, **row})
        assert detector.verdicts[0].severity == "info", f"at step {25 * i}"
    verdict = detector.verdicts[0]
    assert verdict.title.startswith("Watching") and "beta was cut" in verdict.detail
    assert verdict.evidence["beta"] == 0.5 and "beta_max" not in verdict.evidence
    assert verdict.thresholds["active_units"] == 1.0 and "mi_gauss" not in verdict.thresholds, "0.56 nats are over that limit"


def test_a_cut_that_does_not_help_is_alarmed():
    cut = [{**STABLE, "beta": 1.0}] * 3
    assert said(watched(*[(1, row) for row in cut], config=CUT)) == ("collapse", "alarm"), "stable at beta in force too"
    assert said(watched((60, {**UNSTABLE, "beta": 1.0}), config=CUT)) == ("collapse", "alarm"), "nothing grows"


def test_an_alarm_during_a_recovery_does_not_blame_beta():
    rising = [{**DEAD, "beta": 0.5, "mi_gauss": 0.01 * 1.5**i, "residual_eigenvalue": 5.07} for i in range(5)]
    verdict = watched((6, {**STABLE, "beta": 8.33}), *[(1, row) for row in rising], config=CUT).verdicts[0]
    assert (verdict.kind, verdict.severity, verdict.cause) == ("collapse", "alarm", "recovering"), "it is over when it is over"
    assert "recovery" in verdict.detail and "exceeds" not in verdict.detail


@pytest.mark.parametrize(
    ("beta", "residual", "words"),
    [(1.0, 0.5, BY_CAUSE["beta_too_high"].cause), (1.0, 1.2, BETA_AT_LIMIT), (0.2, 0.9, BETA_TO_COME)],
)
def test_what_is_said_of_beta_follows_from_the_evidence(beta, residual, words):
    schedule = {"loss": {"beta_schedule": "linear", "beta_max": 1.0, "beta_warmup_steps": 3000}} if beta < 1 else CONFIG
    row = {**DEAD, "beta": beta, "residual_eigenvalue": residual}
    detector = Detector(schedule, max_steps=None)
    for step in range(600, 900, 10):
        detector.probe({"step": step, **row, "beta": beta if beta == 1 else step / 3000})
    found = advised(replace(detector.verdicts[0], severity="alarm"))
    assert found.cause == "beta_too_high" and words in found.detail
    assert found.evidence.get("beta_max") == (1.0 if beta < 1 else None)
