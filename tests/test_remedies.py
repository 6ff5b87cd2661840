"""Each remedy in real, small trainings: what it does to a collapse, its bounds, its events, and a resume in the middle of it."""

import lightning as L
import pytest
import torch

from backend.on_collapse import OnCollapse
from backend.remedies import BY_NAME, check_remedies, remedy
from backend.steering import BETA_FLOOR, MOST_EVENTS
from shared.configuring import build_config
from shared.errors import InputError
from shared.layout import RunLayout
from shared.remedies import REMEDIES
from tests.steered_vae import SteeredVAE, fresh, train, watcher
from tests.tiny_runs import evaluations, events, metrics

TOO_HIGH = 40.0
"""Above the largest eigenvalue, 16."""


def collapsed_then(name: str, folder, epochs: int = 10, beta: float = TOO_HIGH) -> tuple[SteeredVAE, RunLayout]:
    module, monitor = fresh(beta), watcher(folder)
    train(module, [monitor, OnCollapse(monitor, f"remedy:{name}")], epochs)
    return module, RunLayout(folder / "run")


def test_names_are_those_of_shared():
    assert set(BY_NAME) == set(REMEDIES)
    assert all(text for one in REMEDIES.values() for text in (one.title, one.does, one.helps, one.costs))


def test_nothing_cures_it_by_itself(tmp_path):
    monitor = watcher(tmp_path)
    train(fresh(TOO_HIGH), [monitor], 10)
    assert (monitor.verdict.kind, monitor.verdict.severity) == ("collapse", "alarm")
    assert not events(RunLayout(tmp_path / "run"), "remedy")


@pytest.mark.parametrize("name", ["beta_cut", "pi_control"])
def test_beta_too_high_is_cured(tmp_path, name):
    module, run = collapsed_then(name, tmp_path)
    alarm = next(event["step"] for event in events(run, "verdict") if event["data"]["severity"] == "alarm")
    last = evaluations(run, "probe")[-1]
    assert last["active_units"] >= 2 and last["mi_gauss"] > 1.0
    assert module.used[:alarm] == [TOO_HIGH] * alarm, "nothing moves before the alarm"
    assert all(BETA_FLOOR * TOO_HIGH <= beta <= TOO_HIGH for beta in module.used)
    told = events(run, "remedy")
    assert 1 <= len(told) <= MOST_EVENTS and told[0]["step"] == alarm
    assert {event["data"]["remedy"] for event in told} == {name}
    assert [row["beta"] for row in metrics(run)] == module.used, "the log has the beta that each step used"


def test_pi_control_meets_the_target_it_is_given(tmp_path):
    module, monitor = fresh(6.0), watcher(tmp_path)
    train(module, [monitor, remedy("pi_control", monitor, target=1.5)], 25)
    reached = [row["mi_gauss"] for row in evaluations(RunLayout(tmp_path / "run"), "probe")][-3:]
    assert reached == pytest.approx([1.5] * 3, rel=0.1)


def test_free_bits_bring_kl_back_and_stay_within_their_bound(tmp_path):
    module, run = collapsed_then("free_bits", tmp_path)
    floors = [event["data"]["free_bits"] for event in events(run, "remedy")]
    assert floors == sorted(floors) and floors[-1] <= BY_NAME["free_bits"].MOST
    assert module.free_bits == floors[-1]
    collapsed, cured = (evaluations(run, "probe")[i]["kl"] for i in (3, -1))
    assert cured > 5 * collapsed


def test_cyclical_beta_starts_again_and_ends_at_its_largest(tmp_path):
    module, run = collapsed_then("cyclical_beta", tmp_path)
    began, *again = events(run, "remedy")
    assert len(again) == 3 and [event["data"]["action"] for event in again] == ["cycle"] * 3
    for event in again:
        assert module.used[event["step"]] == BETA_FLOOR * TOO_HIGH
    assert module.used[-1] == TOO_HIGH
    assert began["data"]["cycle"] == (200 - began["step"]) // 4


def test_learned_variance_moves_what_was_fixed(tmp_path):
    module, _ = collapsed_then("learned_variance", tmp_path)
    assert abs(float(module.decoder_logvar.detach())) > 0.1


def test_aggressive_encoder_ends_when_information_stops_rising(tmp_path):
    module, run = collapsed_then("aggressive_encoder", tmp_path)
    began, ended = events(run, "remedy")
    steps = ended["step"] - began["step"]
    assert ended["data"]["extra_steps"] == 5 * steps
    assert steps <= 200 // 5
    assert len(module.used) == 200 + 5 * steps
    assert len(metrics(run)) == 200, "extra steps are no steps of the run, and log nothing"


def test_aggressive_encoder_leaves_the_decoder_and_waiting_gradients_alone(tmp_path):
    seen = []

    class Witness(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append([None if p.grad is None else p.grad.clone() for p in module.parameters()])
            seen.append(module.decoder.weight.clone())
            seen.append(module.mean.weight.clone())

    monitor, before, after = watcher(tmp_path), Witness(), Witness()
    remedied = remedy("aggressive_encoder", monitor)
    train(fresh(), [monitor, before, remedied, after], 1, accumulate_grad_batches=2)
    for grads, decoder, encoder, grads_after, decoder_after, encoder_after in zip(*(seen[i::6] for i in range(6)), strict=True):
        assert torch.equal(decoder, decoder_after) and not torch.equal(encoder, encoder_after)
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(grads, grads_after, strict=True))


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_resumed_in_the_middle_it_goes_on_identically(tmp_path, name):
    class Middle(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.global_step == 60:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    def trained(start=None):
        monitor, module, run = watcher(tmp_path, every=7), fresh(TOO_HIGH), RunLayout(tmp_path / "run")
        train(module, [monitor, OnCollapse(monitor, f"remedy:{name}"), Middle()], 6, start)
        told = [(event["step"], event["message"]) for event in events(run, "remedy")]
        return module.state_dict(), metrics(run), evaluations(run, "probe"), told

    whole, resumed = trained(), trained(tmp_path / "middle.ckpt")
    assert [key for key, value in whole[0].items() if not torch.equal(value, resumed[0][key])] == []
    assert whole[1:] == resumed[1:]
    assert whole[3] and whole[3][0][0] < 60, "it was under way at the resume"


def test_a_module_that_cannot_be_steered_is_told_how(tmp_path):
    class Plain(SteeredVAE):
        def __init__(self):
            super().__init__()
            del self.beta

        def training_step(self, batch, batch_idx):
            raise AssertionError("never trained")

    monitor = watcher(tmp_path)
    with pytest.raises(TypeError, match=r"Plain has no beta, which beta_cut acts on; see the head of backend/steering\.py"):
        train(Plain(), [monitor, remedy("beta_cut", monitor)], 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"remedy": "beta_cut", "stage": "finetune"}, "monitor.remedy: beta_cut .* fine-tuning has no posterior"),
        ({"on_collapse": "stop", "disable_metrics_monitoring": True}, "monitor.on_collapse: stop .* monitoring is off"),
        ({"remedy": "aggressive_encoder", "devices": 2}, "works on one device, and this training has 2"),
        ({"remedy": "learned_variance"}, "learns its variance per value already; take beta_cut or pi_control"),
        ({"on_collapse": "remedy:learned_variance", "decoder": "chamfer"}, "Chamfer loss is no likelihood"),
    ],
)
def test_what_could_not_act_is_refused_before_training(options, words):
    with pytest.raises(InputError, match=words):
        check_remedies(build_config(options))


def test_what_can_act_is_not_refused():
    for options in ({}, {"remedy": "beta_cut"}, {"on_collapse": "remedy:aggressive_encoder"}, {"on_collapse": "checkpoint"}):
        check_remedies(build_config(options))
