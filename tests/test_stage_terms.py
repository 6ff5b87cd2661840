"""What a stage does not have is None in the log, never 0; means of a validation do not depend on how it was cut."""

import numpy as np
import pytest
import torch

from backend.batches import StayDataset
from backend.build import build_module, load_weights, precision_of
from backend.checkpoints import load_checkpoint, score_name, score_of
from backend.evaluation import evaluate_split
from backend.lit import LARGEST_LOG_VARIANCE, SeqSetVAEModule
from backend.store import PreparedDataset
from shared.configuring import build_config
from shared.errors import InputError
from tests.tiny_runs import TINY, evaluations, metrics, start, stays

__all__ = ["stays"]
SMALL = {name: value for name, value in TINY.items() if name in build_config({}).model.model_dump()}


def module_of(data: PreparedDataset, **options: object) -> SeqSetVAEModule:
    return build_module(build_config({**SMALL, "batch_size": 4, **options}), data, 1)


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"stage": "pretrain"}, {"prediction", "weight_prediction"}),
        ({"stage": "finetune"}, {"recon", "kl", "kl_loss", "elbo", "weight_recon", "beta"}),
        ({"decoder": "chamfer"}, {"elbo"}),
        ({}, set()),
    ],
    ids=["pretrain", "finetune", "chamfer", "train"],
)
def test_terms_that_do_not_exist_are_none(stays, tmp_path, options, gone):
    run = start(stays, tmp_path, max_steps=2, disable_metrics_monitoring=True, val_check_interval=0.1, **options)
    row, scores = metrics(run)[-1], evaluations(run, "validation")[-1]
    assert {name for name, value in row.items() if value is None} == gone
    assert {name for name, value in scores.items() if value is None} == gone - {"weight_recon", "weight_prediction", "beta"}
    assert row["loss"] is not None and scores["loss"] is not None
    assert list(run.checkpoints.glob("best_*.ckpt"))


def test_a_run_without_auroc_and_bound_is_ranked_by_what_there_is():
    far, near = {"recon": 9.0, "kl": 2.0}, {"recon": 5.0, "kl": 1.0}
    assert score_of(far) < score_of(near) and score_name(near) == "score-6.000"
    assert score_of({"prediction": 0.7}) < score_of({"prediction": 0.3})


def test_means_weigh_the_prediction_by_labelled_stays(stays):
    """Labelled stays first, then many without a label: batches of another size give the same means."""
    data = PreparedDataset.open(stays)
    module = module_of(data)
    dataset = StayDataset(data, "train", module.config.data)
    labels = np.full_like(dataset._labels, np.nan)
    labels[dataset.rows[:7]] = dataset._labels[dataset.rows[:7]]
    dataset._labels = labels
    one, cut = (evaluate_split(module, dataset, size) for size in (64, 4))
    assert cut["labelled"] == 7
    assert cut["prediction"] == pytest.approx(one["prediction"], rel=1e-4)
    dataset._labels = np.full_like(labels, np.nan)
    without = evaluate_split(module, dataset, 64)
    assert without["prediction"] is None
    assert one["loss"] == pytest.approx(without["loss"] + one["prediction"], rel=1e-4)
    assert without["elbo"] == pytest.approx(-(without["recon"] + without["kl"]))


@pytest.mark.parametrize(("stage", "used"), [("pretrain", [0]), ("train", [0, 1]), ("finetune", [1])])
def test_dynamic_weights_cost_only_what_the_stage_has(stays, stage, used):
    data = PreparedDataset.open(stays)
    module = module_of(data, stage=stage, loss_weighting="dynamic")
    with torch.no_grad():
        module.log_variance.copy_(torch.tensor([1.0, 2.0]))
    *weights, penalty = module._weights(torch.zeros(()))
    assert penalty.item() == sum(0.5 * (1.0, 2.0)[i] for i in used)
    assert [weights[i].item() for i in used] == pytest.approx([np.exp(-(1.0, 2.0)[i]) for i in used])


def test_dynamic_weights_are_bounded_and_come_back(stays):
    data = PreparedDataset.open(stays)
    module = module_of(data, loss_weighting="dynamic")
    with torch.no_grad():
        module.log_variance.copy_(torch.tensor([50.0, -50.0]))
    assert [x.item() for x in module._weights(torch.zeros(()))[:2]] == pytest.approx([np.exp(-3.0), np.exp(3.0)])
    batch = StayDataset(data, "train", module.config.data)[[0, 1]]
    module.training_step(batch, 0)["loss"].backward()
    assert module.log_variance.tolist() == [LARGEST_LOG_VARIANCE, -LARGEST_LOG_VARIANCE]
    assert module.log_variance.grad.abs().min() > 0


def test_dynamic_weights_of_another_stage_are_not_taken_over(stays, tmp_path):
    run = start(stays, tmp_path, stage="pretrain", loss_weighting="dynamic", max_steps=3)
    path = next(run.checkpoints.glob("final_*.ckpt"))
    assert load_checkpoint(path)["state_dict"]["log_variance"][0] != 0
    base = build_config(load_checkpoint(path)["seqsetvae"]["config"])
    for stage, taken in (("train", False), ("pretrain", True)):
        module = build_module(build_config({"stage": stage}, base=base), PreparedDataset.open(stays), 1)
        load_weights(module, path)
        assert bool(module.log_variance.detach()[0] != 0) is taken


def test_a_gpu_that_only_emulates_bfloat16_trains_in_half(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert precision_of(build_config({}), "gpu") == "16-mixed"


def test_fsdp_in_half_precision_is_refused_where_there_are_several_processes():
    options = {"precision": "16-mixed", "strategy": "fsdp", "devices": 2}
    with pytest.raises(
        InputError, match=r"trainer\.precision: FSDP does not train in 16-mixed; use --precision bf16-mixed or 32"
    ):
        precision_of(build_config(options), "gpu")
    assert precision_of(build_config({**options, "devices": 1}), "gpu") == "16-mixed"
