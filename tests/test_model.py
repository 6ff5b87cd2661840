"""The vectorised model: equal to the plain loop, blind to order, padding and the future, every parameter trained."""

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from backend.build import compile_dense_parts, recompute_blocks
from backend.layers import AttentionPool
from backend.lit import SeqSetVAEModule
from backend.model import carried_forward
from shared.config import TrainConfig
from shared.configuring import build_config
from tests import padded, reference
from tests.cohort import VARIABLES, batch_of, cohort
from tests.kept import kept_for_backward

VARIANTS = {
    "full": {"set_attention": "full"},
    "induced": {"set_attention": "induced", "inducing_points": 5},
    "always induced": {"set_attention": "induced", "inducing_points": 5, "induce_small_sets": True},
    "latent": {"decoder_input": "latent", "classifier_measurements": False, "levels": 3},
    "chamfer": {"decoder": "chamfer", "levels": 1},
    "free bits per set, balanced focal": {
        "free_bits_mode": "set", "prediction_loss": "focal", "positive_weight": "balanced", "label_smoothing": 0.1,
    },
}  # fmt: skip
MODELLED = torch.arange(VARIABLES) > 0


def small(**options: object) -> TrainConfig:
    sizes = {
        "width": 16,
        "latent_dim": 6,
        "transformer_heads": 2,
        "dropout": 0.0,
        "beta_schedule": "constant",
        "free_bits": 0.01,
    }
    return build_config({**sizes, **options})


def build(seed: int = 0, **options: object) -> SeqSetVAEModule:
    torch.manual_seed(seed)
    module = SeqSetVAEModule(small(**options), MODELLED, positive_weight=3.0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return module


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_vectorised_equals_naive_loop_in_values_and_gradients(options):
    module = build(**options)
    batch = batch_of(cohort(largest=20))
    encoded = module.net.encode(batch, sample=False)
    loss, _, logit = module.objective(batch, encoded)
    loss.backward()
    got = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    expected, expected_logit = reference.loss(module, reference.split(batch))
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logit, expected_logit, rtol=1e-4, atol=1e-5)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_where_no_set_is_large_the_inducing_points_have_gradients_of_zero():
    """And not none at all, which would stop several processes that average them."""
    module = build(set_attention="induced", inducing_points=64)
    batch = batch_of(cohort(largest=20))
    loss, _, _ = module.objective(batch, module.net.encode(batch, sample=False))
    torch.testing.assert_close(loss, reference.loss(module, reference.split(batch))[0], rtol=1e-5, atol=1e-5)
    loss.backward()
    idle = {
        name: p.grad for name, p in module.named_parameters() if ".gather_" in name or "induce" in name or ".token_" in name
    }
    assert len(idle) == 11 * len(module.net.encoder.blocks) and all(grad.abs().sum() == 0 for grad in idle.values())
    assert module.net.encoder.blocks[0].read_key.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("stage", ["pretrain", "train", "finetune"])
def test_no_trainable_parameter_without_gradient(options, stage):
    module = build(stage=stage, **options)
    batch = batch_of(cohort(stays=12))
    module.training_step(batch, 0)["loss"].backward()
    missing = [n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert missing == []
    assert any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("options", [VARIANTS["full"], VARIANTS["induced"], VARIANTS["latent"]])
def test_the_future_changes_nothing_before_it(options):
    module = build(**options).eval()
    data = cohort(stays=4, seed=1)
    batch = batch_of(data)
    cut = batch.minute.median()
    late = batch.minute > cut
    events = late[batch.set_of_event]
    assert 0 < late.sum() < batch.sets
    changed = dataclasses.replace(
        batch,
        value=torch.where(events, batch.value + 3, batch.value),
        variable=torch.where(events, (batch.variable + 1) % VARIABLES, batch.variable),
        minute=torch.where(late, batch.minute * 2, batch.minute),
    )
    before, after = outputs(module, batch), outputs(module, changed)
    for name in before:
        torch.testing.assert_close(after[name][~late], before[name][~late], rtol=0, atol=0, msg=name)
        assert not torch.allclose(after[name][late], before[name][late])


def outputs(module, batch):
    with torch.no_grad():
        encoded = module.net.encode(batch, sample=False)
        state = module.net.states(encoded.z, batch)
        seen = module.net.decoder_state(encoded.z, state)
        presence = module.net.decoder.head(module.net.decoder.norm(module.net.decoder.body(seen)))
        return {"state": state, "decoded": presence, "carried": carried_forward(batch, VARIABLES)}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_order_of_events_within_a_set_changes_nothing(options):
    module = build(**options).eval()
    data = cohort(seed=2)
    shuffled = dataclasses.replace(data)
    rng = np.random.default_rng(5)
    order = np.concatenate([a + rng.permutation(b - a) for a, b in zip(data.set_start, data.set_start[1:], strict=False)])
    shuffled = dataclasses.replace(data, event_variable=data.event_variable[order], event_value=data.event_value[order])
    assert (shuffled.event_value != data.event_value).any()
    with torch.no_grad():
        first, second = (run(module, batch_of(d)) for d in (data, shuffled))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def run(module, batch):
    encoded = module.net.encode(batch, sample=False)
    loss, parts, logit = module.objective(batch, encoded)
    return loss, parts, logit, encoded.z


@pytest.mark.parametrize("options", [VARIANTS["full"], VARIANTS["induced"], VARIANTS["chamfer"]])
def test_padding_and_neighbours_change_nothing(options):
    module = build(**options).eval()
    data = cohort(stays=6, seed=3)
    together = batch_of(data)
    padded = batch_of(data, use_dynamic_padding=False, max_sequence_length=50)
    assert padded.padded_length == 50
    with torch.no_grad():
        all_logits = run(module, together)[2]
        torch.testing.assert_close(run(module, padded)[2], all_logits, rtol=1e-4, atol=1e-5)
        alone = torch.cat([run(module, batch_of(data, [i]))[2] for i in range(6)])
    torch.testing.assert_close(alone, all_logits, rtol=1e-4, atol=1e-5)


def test_a_batch_without_labels_gives_a_finite_loss_and_no_outcome_gradient():
    module = build()
    data = cohort()
    data.stays["in_hospital_mortality"] = np.nan
    module.training_step(batch_of(data), 0)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    assert sum(p.grad.abs().sum() for p in module.net.classifier.parameters()) == 0


def test_compiled_parts_are_really_compiled_and_compute_the_same():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = build(), build()
    compile_dense_parts(compiled.net, backend="eager")
    for rows in ([0, 1, 2], [3], [4, 5, 6, 7]):
        batch = batch_of(cohort(stays=8), rows)
        expected, got = (seeded(module).training_step(batch, 0)["loss"] for module in (plain, compiled))
        torch.testing.assert_close(got, expected)
    counted = torch._dynamo.utils.counters
    assert counted["stats"]["calls_captured"] > 10
    assert counted["frames"]["ok"] == counted["frames"]["total"] > 0


@pytest.mark.parametrize("options", [{}, VARIANTS["induced"], VARIANTS["chamfer"]], ids=["full", "induced", "chamfer"])
def test_blocks_that_run_again_keep_less_and_give_the_same_gradients(options):
    batch = batch_of(cohort(stays=8, largest=20))
    plain, again = build(**options, dropout=0.2), build(**options, dropout=0.2)
    recompute_blocks(again.net)
    (kept, gradients), (kept_again, gradients_again) = (kept_for_backward(seeded(module), batch) for module in (plain, again))
    assert kept_again < 0.6 * kept
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_again, strict=True))


@pytest.mark.parametrize("options", [*VARIANTS.values(), {"loss_weighting": "dynamic"}], ids=[*VARIANTS, "dynamic weights"])
def test_nothing_of_a_training_step_waits_for_the_device(options):
    """Fake tensors have no values: reading one on the host, which a GPU would have to be waited for, is an error."""
    module, batch = build(**options), batch_of(cohort(largest=20))
    optimizer = module.configure_optimizers()["optimizer"]
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = module.training_step(batch, 0)["loss"]
        loss.backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        with pytest.raises(DataDependentOutputException):
            float(loss.detach())


def seeded(module):
    torch.manual_seed(0)
    return module


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_half_precision_stays_near_full_precision(options):
    module = build(**options)
    batch = batch_of(cohort(stays=8))
    losses = []
    for half in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = seeded(module).training_step(batch, 0)["loss"]
        loss.backward()
        losses.append(loss.detach())
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0.02)


def test_pooling_a_thousand_in_half_precision_keeps_their_mean():
    pool = AttentionPool(4, 2)
    with torch.no_grad():
        pool.score.weight.zero_()
        pool.value.weight.zero_()
        pool.value.bias.fill_(1.0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = pool(torch.randn(2000, 4), torch.zeros(2000, dtype=torch.long), 1)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.ones(1, 4), rtol=1e-3, atol=1e-3)


def test_constant_variables_cannot_fake_likelihood():
    module = build(**VARIANTS["latent"])
    decoder, state = module.net.decoder, torch.randn(batch_of(cohort()).sets, 16)
    batch = batch_of(cohort())
    constant = batch.variable == 0
    moved = dataclasses.replace(batch, value=torch.where(constant, 9.0, batch.value))
    table = module.net.encoder.embed.table
    torch.testing.assert_close(decoder.loss(state, moved, table), decoder.loss(state, batch, table))


@pytest.mark.parametrize("options", [VARIANTS["full"], VARIANTS["latent"]], ids=["full", "latent"])
def test_the_padded_version_is_the_same_model(options):
    """The baseline of `train_throughput --padded` computes what we compute."""
    module = build(**options)
    batch = batch_of(cohort(largest=20))
    ours, _, logit = module.objective(batch, module.net.encode(batch, sample=False))
    ours.backward()
    got = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    theirs, padded_logit = padded.loss(module, padded.Grid.of(batch))
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logit, padded_logit, rtol=1e-4, atol=1e-5)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
