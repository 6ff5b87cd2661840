"""The forecast against the closed form of the linear VAE, and what it refuses to say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.probe_row import independent_shares, probe_row
from shared.forecast import Floor, Forecast, Spectrum, forecast, next_largest, survivors, unforeseen
from shared.schedule import BetaSchedule

EIGENVALUES = np.geomspace(12, 0.3, 20)
THEORY = [(0.5, 17, 13.811), (1, 13, 8.580), (2, 10, 4.590), (4, 6, 1.840), (20, 0, 0.0)]
"""beta, active units and nats of a linear VAE with these eigenvalues and decoder variance 1 (posterior_metrics.md)."""
VALUES_ALONE = Spectrum(EIGENVALUES, np.empty(0), observed=20, sets=1000)


def at_optimum(beta: float, step: int, dims: int = 20) -> dict[str, object]:
    """The probe row of a linear VAE that is trained to its optimum at `beta`."""
    alive = np.clip(1 - beta / EIGENVALUES, 0, None)[:dims]
    return {"step": step, "beta": beta, "latent_dims": dims, "per_dim": {"shares": alive.tolist()}}


@pytest.mark.parametrize(("beta", "units", "nats"), THEORY)
def test_survivors_are_those_of_the_table(beta: float, units: int, nats: float) -> None:
    found = survivors(EIGENVALUES, beta)
    assert found.units == units
    assert found.nats == pytest.approx(nats, abs=5e-4)


@pytest.mark.parametrize(("beta", "units", "nats"), THEORY)
def test_outlook_with_a_fixed_variance_is_that_of_the_table(beta: float, units: int, nats: float) -> None:
    outlook = VALUES_ALONE.outlook(beta, latents=20, decoder_variance=1.0)
    assert (outlook.units, outlook.nats) == (units, pytest.approx(nats, abs=5e-4))


@pytest.mark.parametrize(("beta", "units", "nats"), THEORY)
@pytest.mark.parametrize("earlier", [0.5, 0.6, 0.9])
def test_forecast_from_an_earlier_optimum_is_that_of_the_table(beta: float, units: int, nats: float, earlier: float) -> None:
    """Units dead at the earlier beta are dead at the larger one too, so nothing is lost by looking from there."""
    schedule = BetaSchedule("linear", beta, 1000)
    found = forecast(at_optimum(beta * earlier, round(1000 * earlier)), schedule)
    assert found is not None
    assert (found.units, found.reached_at, found.of) == (units, 1000, 20)
    assert found.nats == pytest.approx(nats, abs=5e-4)


def test_no_more_units_live_than_there_are_latents() -> None:
    outlook = VALUES_ALONE.outlook(1.0, latents=5, decoder_variance=1.0)
    assert outlook.units == 5
    assert outlook.nats == pytest.approx(0.5 * np.log(EIGENVALUES[:5]).sum())


def test_a_learned_variance_solves_its_own_equation() -> None:
    """sigma2 is the mean of what is left unexplained at tau = beta * sigma2, in the largest of its solutions."""
    for beta in (0.5, 1.0, 1.5, 3.0):
        outlook = VALUES_ALONE.outlook(beta, latents=8)
        tau = beta * outlook.decoder_variance
        left = np.minimum(EIGENVALUES[:8], tau).sum() + EIGENVALUES[8:].sum()
        assert left / 20 == pytest.approx(outlook.decoder_variance, rel=1e-6)


def test_largest_beta_is_where_nothing_lives() -> None:
    both = Spectrum(EIGENVALUES, np.array([3.0, 0.5]), observed=20, sets=1000)
    for spectrum in (VALUES_ALONE, both):
        edge = spectrum.largest_beta()
        assert spectrum.outlook(edge * 1.001, 20).units == 0
        assert spectrum.outlook(edge * 0.97, 20).units > 0
    assert both.largest_beta() == pytest.approx(12 / (EIGENVALUES.sum() / 20))
    assert Spectrum(np.zeros(3), np.empty(0), 0.0, 10).outlook(1.0, 4).units == 0


def test_values_and_presence_compete_for_the_latents() -> None:
    spectrum = Spectrum(np.array([4.0, 2.0]), np.array([3.0, 2.5]), observed=2, sets=10)
    outlook = spectrum.outlook(1.0, latents=2, decoder_variance=1.0)
    assert (outlook.values.units, outlook.presence.units) == (1, 1)
    assert outlook.nats == pytest.approx(0.5 * math.log(12))


# What is said, and when nothing is


def test_sentence_names_beta_step_and_units() -> None:
    found = forecast(at_optimum(0.05, 500), BetaSchedule("linear", 0.1, 1000))
    assert found is not None
    assert found.sentence == "At beta 0.1, reached at step 1,000, 20 of 20 units will remain, with 29 nats per set."


def test_foreseen_collapse_says_so() -> None:
    found = forecast(at_optimum(10, 500), BetaSchedule("linear", 20, 1000))
    assert found is not None
    assert "none of 20 units will remain: the posterior will collapse" in found.sentence


def test_free_bits_hold_the_rest() -> None:
    floor = Floor.of({"loss": {"free_bits": 0.5, "free_bits_mode": "dimension"}})
    found = forecast(at_optimum(1, 500), BetaSchedule("linear", 2, 1000), floor=floor)
    assert found is not None
    assert (found.units, found.held) == (5, 15), "5 eigenvalues are above 2 e"
    assert "free bits hold the other 15 at 0.5 nats each" in found.sentence
    none = replace(found, units=0, nats=0.0).sentence
    assert "none of 20 units will remain on its own strength; free bits hold all 20 at 0.5 nats each" in none, (
        "there is no other"
    )
    total = forecast(at_optimum(1, 500), BetaSchedule("linear", 2, 1000), floor=Floor(3.0, "set"))
    assert total is not None
    assert (total.units, total.held) == (10, 0)
    assert "free bits keep the total at 3 nats" in total.sentence
    assert Floor.of({}) == Floor()


LINEAR = BetaSchedule("linear", 1.0, 1000)


@pytest.mark.parametrize(
    ("row", "schedule", "reason"),
    [
        (at_optimum(0.1, 100), LINEAR, "Too early"),
        (at_optimum(0.0, 0), LINEAR, "Too early"),
        (at_optimum(1.0, 2000), LINEAR, "at its largest"),
        (at_optimum(1.0, 1), BetaSchedule("constant", 1.0, 0), "at its largest"),
        (at_optimum(0.5, 1500), LINEAR, "off its schedule"),
        (at_optimum(0.3, 900), LINEAR, "off its schedule"),
        (at_optimum(0.5, 500), None, "not known"),
        (at_optimum(0.5, 500) | {"beta": None}, LINEAR, "not known"),
        (at_optimum(0.5, 500) | {"per_dim": None}, LINEAR, "independent shares"),
        (at_optimum(0.5, 500) | {"per_dim": {"shares": [None, 0.5]}}, LINEAR, "independent shares"),
    ],
)
def test_what_cannot_be_foreseen_is_said(row: dict[str, object], schedule: BetaSchedule | None, reason: str) -> None:
    assert reason in str(unforeseen(row, schedule))
    assert forecast(row, schedule) is None


def test_only_material_changes_are_told_again() -> None:
    first = forecast(at_optimum(0.5, 500), LINEAR)
    assert forecast(at_optimum(0.52, 520), LINEAR, previous=first) is None
    assert forecast(at_optimum(0.5, 500, dims=5), LINEAR, previous=first) is not None
    last = Forecast(500, 0.5, 1.0, 1000, 0, 0.0, 20, Floor())
    assert forecast({**at_optimum(0.5, 500), "per_dim": {"shares": [0.6] + [0.0] * 19}}, LINEAR, previous=last) is not None


def test_cycles_reach_their_largest_beta_again() -> None:
    cycles = BetaSchedule("cyclical", 1.0, 100, 0.5)
    assert [next_largest(cycles, step) for step in (0, 30, 50, 60, 130)] == [50, 50, 50, 150, 150]
    found = forecast(at_optimum(0.6, 130), cycles)
    assert found is not None
    assert found.reached_at == 150


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.5, 0.99), st.floats(1e-3, 50), st.floats(0, 2)
)  # fmt: skip
def test_any_posterior_gives_a_sane_forecast(shares: list[float], share: float, largest: float, bits: float) -> None:
    row = {"step": round(1e6 * share), "beta": largest * share, "per_dim": {"shares": shares}}
    found = forecast(row, BetaSchedule("linear", largest, 1_000_000), floor=Floor(bits))
    assert found is not None
    assert 0 <= found.units <= len(shares)
    assert found.nats >= 0
    assert (found.nats == 0) == (found.units == 0)
    assert found.sentence


# Directions, not units


def test_turned_latents_hold_the_same_directions() -> None:
    """Four directions spread over sixteen units: every unit looks barely alive, and none of them would be foreseen to last."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.9, 0.8, 0.6, 0.5] + [0.0] * 12, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0]
    source = torch.randn(4000, 16, generator=generator, dtype=torch.float64)
    source = torch.linalg.qr(source - source.mean(dim=0))[0] * math.sqrt(3999)
    mu, variance = source * shares.sqrt() @ turn, turn.T.square() @ (1 - shares)
    straight = independent_shares(source * shares.sqrt(), 1 - shares)
    torch.testing.assert_close(straight, shares, atol=1e-9, rtol=0)
    found = independent_shares(mu, variance)
    assert int((found > 0.3).sum()) == 4
    assert int((found < 1e-9).sum()) == 12
    assert float((variance * 2 < 0.99).sum()) == 0, "unit by unit a doubled beta would leave nothing"
    row = {**probe_row(mu, variance.log().expand_as(mu)), "step": 500, "beta": 0.5}
    told = forecast(row, LINEAR)
    assert told is not None
    assert told.units >= 2


@pytest.mark.parametrize("variance", [0.0, 1e-30, 1.0])
def test_shares_of_extreme_posteriors_are_shares(variance: float) -> None:
    mu = torch.randn(40, 60, generator=torch.Generator().manual_seed(0)) * 1e10
    mu[:, :5] = 0
    shares = independent_shares(mu, torch.full((60,), variance))
    assert bool(torch.isfinite(shares).all())
    assert float(shares.min()) >= 0
    assert float(shares.max()) <= 1


def test_an_exploded_posterior_lists_no_shares() -> None:
    mu = torch.zeros(64, 4)
    assert "shares" not in probe_row(mu, torch.full_like(mu, 200.0))["per_dim"]
    assert "shares" not in probe_row(torch.full_like(mu, torch.nan), mu)["per_dim"]
