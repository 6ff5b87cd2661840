"""The published models that `baselines` sets beside ours compute what their papers say."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.baseline_models.grid import Grid
from tests.benchmarks.baseline_models.gru_d import GRUD, Decaying
from tests.benchmarks.baseline_models.mtand import MTANDEnc, MTANDFull, TimeAttention
from tests.cohort import VARIABLES, batch_of, cohort

WIDTH = 16
MODELS: dict[str, Callable[[], nn.Module]] = {
    "gru_d": lambda: GRUD(VARIABLES, WIDTH),
    "mtand_enc": lambda: MTANDEnc(VARIABLES, WIDTH, points=12),
    "mtand_full": lambda: MTANDFull(VARIABLES, WIDTH, latent=8, points=12),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small on two threads only wait for each other, where other work holds a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]()


def grid_of(rows: list[int] | None = None, **options: object) -> Grid:
    return Grid.of(batch_of(cohort(stays=6, largest=4), rows, **options), VARIABLES)


def logits(model: nn.Module, grid: Grid) -> Tensor:
    if isinstance(model, GRUD):
        return model(Decaying.of(grid))
    return model(grid, sample=False).logit if isinstance(model, MTANDFull) else model(grid)


def loss(model: nn.Module, grid: Grid) -> Tensor:
    def outcome(logit: Tensor) -> Tensor:
        known = ~grid.label.isnan()
        return F.binary_cross_entropy_with_logits(logit[known], grid.label[known])

    if isinstance(model, MTANDFull):
        parts = model(grid)
        return parts.loss(outcome(parts.logit))
    return outcome(logits(model, grid))


def test_a_grid_holds_the_mean_of_every_variable_at_every_time() -> None:
    batch = batch_of(cohort(stays=6))
    grid = Grid.of(batch, VARIABLES)
    seen = torch.zeros_like(grid.observed)
    for s in range(batch.sets):
        stay, time = int(batch.stay_of_set[s]), int(batch.position_of_set[s])
        assert grid.hours[stay, time] == batch.minute[s] / 60
        own = batch.set_of_event == s
        for v in batch.variable[own].unique().tolist():
            seen[stay, time, v] = 1
            expected = batch.value[own][batch.variable[own] == v].mean()
            torch.testing.assert_close(grid.value[stay, time, v], expected)
    assert grid.observed.equal(seen) and (grid.value[seen == 0] == 0).all()


def test_gru_d_counts_hours_from_the_last_observation_and_keeps_it() -> None:
    nan = torch.nan
    value = torch.tensor([[[47.0, nan], [nan, 4.0], [40.0, nan], [nan, nan]]])
    grid = Grid(
        value.nan_to_num(0), (~value.isnan()).float(), torch.tensor([[0.0, 0.5, 2.0, 5.0]]), torch.tensor([3]), torch.ones(1)
    )
    stays = Decaying.of(grid)
    assert stays.since[0].T.tolist() == [[0, 0.5, 2.0, 3.0], [0, 0.5, 1.5, 4.5]]
    assert stays.before[0].T.tolist() == [[0, 47, 47, 40], [0, 0, 4, 4]]


def test_gru_d_decays_nothing_without_a_gap_and_a_missing_value_to_the_mean_over_a_long_one() -> None:
    model, stays = made("gru_d"), Decaying.of(grid_of())
    assert isinstance(model, GRUD)
    at_once = dataclasses.replace(stays, since=torch.zeros_like(stays.since))
    assert (model.input_decays(at_once) == 1).all() and (model.hidden_decays(at_once) == 1).all()
    model.input_decay.data.fill_(0.3)
    missing = dataclasses.replace(stays, grid=dataclasses.replace(stays.grid, observed=torch.zeros_like(stays.grid.observed)))
    found = [
        model.inputs(dataclasses.replace(missing, since=torch.full_like(stays.since, hours))).abs()
        for hours in (0.0, 1.0, 5.0, 200.0)
    ]
    torch.testing.assert_close(found[0], stays.before.abs())
    held = stays.before != 0
    assert all((later[held] < earlier[held]).all() for earlier, later in pairwise(found))
    assert held.any() and (found[-1] < 1e-20).all()


def test_gru_d_is_its_formulas_step_by_step() -> None:
    model, grid = made("gru_d"), grid_of([2])
    assert isinstance(model, GRUD)
    stays = Decaying.of(grid)
    from_x, from_m = model.from_input.weight.chunk(2, dim=1)
    (w_r, w_z, w_c), (v_r, v_z, v_c), (b_r, b_z, b_c) = from_x.chunk(3), from_m.chunk(3), model.from_input.bias.chunk(3)
    (u_r, u_z), u_c = model.gates.weight.chunk(2), model.candidate.weight
    h = torch.zeros(WIDTH)
    for x, m, d in zip(model.inputs(stays)[0], grid.observed[0], stays.since[0], strict=True):
        h = (-(model.hidden_decay.weight @ d + model.hidden_decay.bias).clamp(min=0)).exp() * h
        r = (w_r @ x + u_r @ h + v_r @ m + b_r).sigmoid()
        z = (w_z @ x + u_z @ h + v_z @ m + b_z).sigmoid()
        h = (1 - z) * h + z * (w_c @ x + u_c @ (r * h) + v_c @ m + b_c).tanh()
    torch.testing.assert_close(model(stays), model.head(h))


def test_attention_of_mtand_is_a_softmax_over_the_observed_points_of_each_variable() -> None:
    torch.manual_seed(0)
    grid, wanted = grid_of(), torch.linspace(0, 1, 5)
    given, seen = grid.hours / 48, grid.observed.bool()
    attention = TimeAttention(2 * VARIABLES, WIDTH, WIDTH)
    at = torch.eye(grid.value.shape[1])[..., None].expand(-1, -1, VARIABLES)  # [T, T, V]: 1 at one time, to see its weight
    weights = torch.stack([attention.observed_means(wanted, given, one.expand_as(seen), grid.observed) for one in at], dim=2)
    weight, known = weights.chunk(2, dim=-1)  # [P, R, T, V]
    scores = attention.scores(wanted, given)[..., None].masked_fill(~seen[:, None], -torch.inf)
    torch.testing.assert_close(weight, scores.softmax(dim=2).nan_to_num(0))
    assert not weight.masked_select(~seen[:, None].expand_as(weight)).any()
    torch.testing.assert_close(weight.sum(dim=2), seen.any(dim=1)[:, None].float().expand(-1, 5, -1))
    assert known[:, 0, 0].equal(seen.any(dim=1).float()) and not seen.any(dim=1).all()


@pytest.mark.parametrize("name", MODELS)
def test_padding_does_not_change_the_logits_of_a_stay(name: str) -> None:
    model = made(name)
    together = logits(model, grid_of())
    wider = logits(model, grid_of(use_dynamic_padding=False, max_sequence_length=30))
    alone = torch.cat([logits(model, grid_of([row])) for row in range(6)])
    assert together.std() > 1e-4
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(wider, alone)


def test_mtand_reconstructs_only_what_was_observed() -> None:
    model, grid = made("mtand_full"), grid_of()
    parts = model(grid, sample=False)
    other = dataclasses.replace(grid, value=torch.where(grid.observed > 0, grid.value, 5.0))
    torch.testing.assert_close(model(other, sample=False), parts)
    shifted = dataclasses.replace(grid, value=grid.value + grid.observed)
    assert (model(shifted, sample=False).recon != parts.recon).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_falls_and_every_weight_learns(name: str) -> None:
    model, grid = made(name), grid_of()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(60):
        found = loss(model, grid)
        found.backward()
        if not step:
            assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(found.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
