"""The detector on rows made by hand: what it says, from when on, and what it keeps to itself."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.advice import BY_CAUSE, advised
from shared.collapse import COLLAPSES, PRESETS, SEVERITIES, Thresholds, Verdict
from shared.detector import Detector, replay
from shared.remedies import REMEDIES
from shared.spikes import SpikeCounter

Row = dict[str, Any]
D = 20
HEALTHY: Row = {
    "kl": 5.0, "mi_gauss": 4.0, "prior_gap": 1.0, "active_units": 12, "latent_dims": D, "patients": 256, "posterior_variance": 0.6,
    "recon": 10.0, "decoder_reliance": 0.8, "explained": 0.6, "residual_eigenvalue": 0.8, "beta": 1.0, "var_between": 0.2,
    "var_within": 0.1, "per_dim": {"var_mu": [0.5] * 12 + [0.0] * 8},
}  # fmt: skip
DEAD: Row = {**HEALTHY, "kl": 0.02, "mi_gauss": 0.01, "active_units": 0, "explained": 0.0, "per_dim": {"var_mu": [0.0] * D}}
STABLE: Row = {**DEAD, "residual_eigenvalue": 0.5}
"""Dead, and no latent would gain by coming alive."""
UNSTABLE: Row = {**DEAD, "residual_eigenvalue": 4.0}
CONFIG = {"loss": {"beta_schedule": "constant", "beta_max": 1.0, "beta_warmup_steps": 0}}
WARMUP = {"loss": {"beta_schedule": "linear", "beta_max": 1.0, "beta_warmup_steps": 300}}
CYCLES = {"loss": {"beta_schedule": "cyclical", "beta_max": 1.0, "beta_warmup_steps": 200, "beta_cycle_ramp": 0.5}}


def watched(
    *parts: tuple[int, Row], config: Row = CONFIG, limits: Thresholds | None = None, max_steps: int | None = 1000
) -> Detector:
    """A detector after evaluations every 10 steps: so many of each row, one after the other."""
    detector, step = Detector(config, limits, max_steps), 0
    for count, row in parts:
        for _ in range(count):
            step += 10
            detector.probe({"step": step, **row})
    return detector


def said(detector: Detector) -> tuple[str, str]:
    return detector.verdicts[0].kind, detector.verdicts[0].severity


def changed(**values: Any) -> Row:
    return {**HEALTHY, **values}


def test_healthy_names_the_surplus_as_information():
    (verdict,) = watched((50, HEALTHY)).verdicts
    assert (verdict.kind, verdict.severity) == ("healthy", "ok")
    assert "What is not active is not missed" in verdict.detail


LATE: dict[str, Row] = {
    "collapse": STABLE,
    "constant_shift": changed(kl=6.0, mi_gauss=0.02),
    "decoder_ignores_latent": changed(decoder_reliance=0.004),
    "partial_time": changed(var_within=0.0005),
    "partial_dimensions": changed(active_units=4, mi_gauss=2.0, explained=0.3, per_dim={"var_mu": [0.5] * 4 + [0.0] * 16}),
    "partial_level": changed(active_ratio_level_1=0.0, mi_gauss_level_1=0.01, active_ratio_level_2=0.7, mi_gauss_level_2=3.0),
    "kl_explosion": changed(kl=3000.0),
}


@pytest.mark.parametrize("kind", LATE)
def test_what_is_lost_after_settling_is_a_warning_then_an_alarm(kind):
    stages = [watched((40, HEALTHY), (count, LATE[kind])) for count in (1, 2, 3)]
    assert [said(d)[1] for d in stages[1:]] == ["warning", "alarm"] or kind == "kl_explosion"
    verdict = stages[-1].verdicts[0]
    assert (verdict.kind, verdict.began, verdict.seen) == (kind, 410, 430)
    assert verdict.evidence and verdict.thresholds and verdict.advice and verdict.measured == 430
    assert (verdict.kind in COLLAPSES) == (kind != "kl_explosion")
    assert set(verdict.remedies) <= REMEDIES.keys()


def test_it_ends_when_it_ends_and_may_come_again():
    detector = watched((40, HEALTHY), (5, STABLE), (2, HEALTHY))
    assert said(detector) == ("collapse", "alarm"), "two good evaluations are not three"
    detector = watched((40, HEALTHY), (5, STABLE), (3, HEALTHY))
    assert said(detector) == ("healthy", "ok")
    (past,) = detector.past
    assert (past.kind, past.began, past.seen, past.ended) == ("collapse", 410, 430, 460)
    again = watched((40, HEALTHY), (5, STABLE), (3, HEALTHY), (3, STABLE))
    assert again.verdicts[0].began == 490


def test_a_dip_that_can_recover_is_given_time_and_one_that_cannot_is_not():
    """The linear theory tells them apart: residuals worth more than beta pull the latents back."""
    assert said(watched((3, HEALTHY), (20, UNSTABLE)))[1] == "info"
    assert said(watched((3, HEALTHY), (20, UNSTABLE), (9, HEALTHY))) == ("healthy", "ok")
    assert said(watched((3, HEALTHY), (3, STABLE))) == ("collapse", "alarm")
    assert said(watched((3, HEALTHY), (30, UNSTABLE))) == ("collapse", "alarm"), "not for ever"


def test_a_warm_up_is_no_alarm():
    rows = (5, HEALTHY), (20, UNSTABLE)
    assert said(watched(*rows, config=WARMUP)) == ("collapse", "info")
    assert said(watched(*rows, (10, UNSTABLE), config=WARMUP)) == ("collapse", "alarm")


def test_cyclical_annealing_is_judged_by_whole_cycles():
    """Latents that go with each rise of beta and come back are what the schedule is for."""
    cycle = (12, HEALTHY), (8, STABLE)
    assert all(said(watched(*[*cycle] * n, config=CYCLES))[1] != "alarm" for n in range(1, 5))
    assert said(watched(*cycle, (21, STABLE), config=CYCLES)) == ("collapse", "alarm")


@pytest.mark.parametrize(
    ("change", "cause", "first"),
    [
        ({"residual_eigenvalue": 0.5}, "beta_too_high", "pi_control"),
        ({"residual_eigenvalue": 3.0}, "encoder_lags", "aggressive_encoder"),
        ({"residual_eigenvalue": 0.5, "explained": 0.5}, "decoder_bypass", "pi_control"),
        ({"residual_eigenvalue": 0.5, "beta": 20.0}, "beta_raised", "beta_cut"),
        ({"residual_eigenvalue": None, "beta": None}, "unknown", "pi_control"),
    ],
)  # fmt: skip
def test_the_cause_is_what_was_measured(change, cause, first):
    verdict = watched((40, HEALTHY), (6, {**DEAD, **change})).verdicts[0]
    assert (verdict.kind, verdict.cause) == ("collapse", cause)
    assert verdict.remedies and verdict.remedies[0] in REMEDIES
    assert BY_CAUSE[cause].cause in verdict.detail and first in verdict.remedies


def test_partial_loss_names_the_units():
    verdict = watched((40, HEALTHY), (3, LATE["partial_dimensions"])).verdicts[0]
    assert verdict.dims == tuple(range(4, 12)) and verdict.level is None
    assert watched((40, HEALTHY), (3, LATE["partial_level"])).verdicts[0].level == 1


def test_pruning_is_no_loss():
    """Units that die while the reconstruction stays as it was, or while beta still rises by plan, were surplus."""
    pruned = changed(active_units=4, per_dim={"var_mu": [0.5] * 4 + [0.0] * 16})
    assert said(watched((40, HEALTHY), (10, pruned))) == ("healthy", "ok")
    assert said(watched((20, HEALTHY), (10, LATE["partial_dimensions"]), config=WARMUP)) == ("healthy", "ok")


def test_older_rules_raise_nothing():
    """Var < 0.1 is the most informative setting; exp(logvar) > 0.01 holds everywhere at total collapse."""
    assert said(watched((40, changed(posterior_variance=0.0025, active_ratio_variance=0.0)))) == ("healthy", "ok")


def test_too_few_patients_prove_nothing():
    verdict = watched((40, {**STABLE, "patients": 31})).verdicts[0]
    assert (verdict.kind, verdict.severity) == ("insufficient", "info") and "31 probe patients" in verdict.detail
    assert watched().verdicts[0].kind == "insufficient"
    assert watched((3, {"loss": 1.0})).verdicts[0].kind == "insufficient"


def test_not_finite_is_said_at_once_and_ends():
    detector = watched((40, HEALTHY), (1, {"kl": None, "nonfinite": ["kl", "recon"]}))
    assert said(detector) == ("nonfinite", "alarm") and "kl, recon" in detector.verdicts[0].detail
    detector.probe({"step": 420, **HEALTHY})
    assert said(detector) == ("healthy", "ok") and detector.past[0].ended == 411
    for step in range(421, 460):
        detector.training({"step": step, "loss": None if step < 425 else 1.0, "nonfinite": ["loss"] if step < 425 else []})
        assert (said(detector)[0] == "nonfinite") == (step < 444)
    detector.training({"step": 460, "grad_norm": None, "nonfinite": ["grad_norm"]})
    assert said(detector)[0] == "healthy", "a loss scaler overflows by design"


def test_stagnation_and_overfitting():
    stuck = changed(recon=100.0, explained=-0.01)
    assert said(watched((30, stuck))) == ("stagnation", "alarm")
    detector = Detector(CONFIG, max_steps=1000)
    for i in range(1, 61):
        held_out = 10 + max(0, 20 - i) + 0.2 * max(0, i - 30)
        for step in range(10 * i - 9, 10 * i + 1):
            detector.training({"step": step, "recon": 30 - 0.03 * step})
        detector.probe({"step": 10 * i, **HEALTHY, "recon": held_out})
    verdict = detector.verdicts[0]
    assert (verdict.kind, verdict.severity) == ("overfitting", "alarm") and 310 < verdict.began < 400


def test_a_rise_in_training_as_well_is_not_overfitting():
    detector = Detector(CONFIG, max_steps=1000)
    for i in range(1, 61):
        level = 10 + max(0, 20 - i) + 0.2 * max(0, i - 30)
        detector.training({"step": 10 * i - 1, "recon": level})
        detector.probe({"step": 10 * i, **HEALTHY, "recon": level})
    assert said(detector) == ("healthy", "ok")


def test_spikes_make_an_instability_that_ends():
    rng, detector = np.random.default_rng(0), Detector(CONFIG)
    for step in range(1, 600):
        wild = 50.0 if 300 <= step < 400 and step % 15 == 0 else 0.0
        detector.training(
            {"step": step, "recon": 10 + rng.normal() + wild, "grad_norm": math.exp(0.2 * rng.normal() + (wild > 0) * 4)}
        )
        alarmed = any(v.kind == "instability" for v in detector.verdicts)
        assert alarmed <= (315 <= step < 500), step
    (past,) = detector.past
    assert (past.kind, past.began) == ("instability", 300) and 315 <= past.seen <= 345


@pytest.mark.parametrize("trend", [0.0, -0.02])
def test_heavy_tails_and_trends_are_no_spikes(trend):
    rng, counter = np.random.default_rng(1), SpikeCounter(8.0, 100)
    for step in range(20_000):
        counter.add(step, 5 + trend * step + rng.standard_t(6))
    assert len(counter.spikes) < 2


ANY = st.one_of(
    st.none(), st.floats(allow_nan=True), st.integers(-5, 10**6), st.text(max_size=3), st.lists(st.floats(), max_size=3)
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from([*HEALTHY, "nonfinite", "active_ratio_level_1", "mi_gauss_level_1", "grad_norm"]), ANY),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_no_row_breaks_it(rows):
    """Whatever a log holds, there is a verdict, and a frame of the rows gives the same one."""
    numbered = [{"step": 10 * i, **row} for i, row in enumerate(rows, 1)]
    detector = replay(Detector({}), numbered, numbered)
    assert detector.verdicts and all(v.severity in SEVERITIES for v in detector.verdicts)


PHASES = st.lists(
    st.tuples(st.integers(1, 15), st.sampled_from([HEALTHY, DEAD, STABLE, UNSTABLE, *LATE.values(), {"kl": None, "nonfinite": ["kl"]}])),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(PHASES, st.sampled_from([CONFIG, WARMUP, CYCLES, {}]), st.sampled_from([*PRESETS.values()]))
def test_every_episode_has_an_order_in_time_and_only_gets_worse(phases, config, limits):
    detector = Detector(config, limits, 1000)
    step, began = 0, {}
    for count, row in phases:
        for _ in range(count):
            step += 10
            detector.probe({"step": step, **row})
            for verdict in detector.verdicts:
                if verdict.began is None:
                    continue
                assert verdict.began <= (verdict.seen or 0) <= step
                rank = SEVERITIES.index(verdict.severity)
                key = (*verdict.subject, verdict.began)
                assert rank <= began.get(key, rank), "an episode never gets milder"
                began[key] = rank
    for past in detector.past:
        assert past.began < past.ended <= step + 1


def test_stricter_presets_are_later():
    def first_alarm(limits: Thresholds) -> int:
        return next(
            n for n in range(1, 60) if said(watched((40, HEALTHY), (n, LATE["partial_level"]), limits=limits))[1] == "alarm"
        )

    early, balanced, strict = (first_alarm(PRESETS[name]) for name in ("early", "balanced", "strict"))
    assert early < balanced < strict


def test_advice_names_existing_remedies_only():
    for cause, advice in BY_CAUSE.items():
        assert set(advice.remedies) <= REMEDIES.keys(), cause
    once = advised(Verdict("collapse", "alarm", "t", "d", cause="encoder_lags"))
    assert advised(once) == once


def test_rows_from_a_frame():
    frame = pd.DataFrame(
        [{"step": 10 * i, **HEALTHY} for i in range(1, 40)] + [{"step": 10 * i, **STABLE} for i in range(40, 45)]
    )
    detector = replay(Detector(CONFIG, max_steps=1000), [], frame.to_dict("records"))
    assert said(detector) == ("collapse", "alarm") and math.isfinite(detector.verdicts[0].evidence["kl"])
