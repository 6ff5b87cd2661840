"""The fixed probe set: recorded values as they were recorded, and figures of each level relative to its prior."""

import numpy as np
import pandas as pd
import pytest
import torch

from backend.batches import StayDataset
from backend.lit import SeqSetVAEModule
from backend.loss import Gaussian
from backend.probe import StayProbe
from backend.probe_parts import encoded_part
from backend.probe_row import dimension_kinds
from backend.probe_sample import DECODED_STAYS, choose
from shared.config import DataConfig
from shared.configuring import build_config
from shared.dataset import VariableInfo
from tests.cohort import VARIABLES, cohort

UNSEEN = 3
STAYS = 40


def recorded(stays, **options):
    """Variable 0 is constant in training, variable 3 unseen there, and one value in five lies far outside its clip."""
    made = cohort(stays=stays, seed=1, **options)
    made.info.variables[UNSEEN] = VariableInfo(name="v3", count=0)
    made.event_value[::5] *= 40
    return made


@pytest.fixture
def data():
    return recorded(STAYS)


def module_of(data, levels=2, **options) -> SeqSetVAEModule:
    torch.manual_seed(0)
    config = build_config({"width": 16, "latent_dim": 4, "levels": levels, "transformer_layers": 1, "transformer_heads": 2,
                           "set_heads": 1, **options})  # fmt: skip
    modelled = torch.tensor([v.std is not None and not v.constant for v in data.info.variables])
    return SeqSetVAEModule(config, modelled)


def test_observed_is_what_was_recorded():
    data = recorded(DECODED_STAYS)
    probe = StayProbe(StayDataset(data, "train", DataConfig()), patients=DECODED_STAYS)
    found = probe(module_of(data)).reconstruction
    assert len(found) == data.info.events
    assert np.abs(found["observed"]).max() > 20, "values beyond the clip are among them"
    stay_of_event = np.repeat(data.stays["stay_id"], [
        data.set_start[first + count] - data.set_start[first]
        for first, count in zip(data.stays["set_start"], data.stays["set_count"], strict=True)
    ]).to_numpy()  # fmt: skip
    names = np.array([v.name for v in data.info.variables])
    kept = sorted(zip(stay_of_event, names[data.event_variable], data.event_value.tolist(), strict=True))
    assert sorted(zip(found["stay_id"], found["variable"], found["observed"].tolist(), strict=True)) == kept
    nothing = found["variable"].isin(["v0", f"v{UNSEEN}"])
    assert found.loc[nothing, "observed"].notna().all() and found.loc[nothing, "reconstructed"].isna().all()
    known = found[~nothing]
    assert known["error"].to_numpy() == pytest.approx((known["reconstructed"] - known["observed"]).to_numpy(), abs=1e-4)
    assert set(names[1:VARIABLES]) - {f"v{UNSEEN}"} == set(known["variable"])


def test_a_large_probe_thins_the_sets_and_decodes_some_stays(monkeypatch):
    """Sets by themselves are encoded as they are among the rest of their stay."""
    monkeypatch.setattr("backend.probe_sample.SAMPLED_SETS", 120)
    monkeypatch.setattr("backend.probe_sample.SHOWN_SETS", 100)
    data = recorded(60, longest=30)
    dataset = StayDataset(data, "train", DataConfig(max_sequence_length=20))
    sample = choose(dataset, patients=60, seed=0)
    assert sample.decoded == DECODED_STAYS and [batch.stays for batch in sample.whole] == [16, 16]
    module = module_of(data).eval()
    found = StayProbe(dataset, 60)(module)
    sampled = found.latents[found.latents["sampled"]]
    per_stay = sampled["stay_id"].value_counts()
    assert len(per_stay) == found.values["patients"] == 60 and per_stay.max() == 2
    assert found.values["sets"] == len(sampled) <= 120 and found.values["decoded_patients"] == DECODED_STAYS
    first, count = dataset.extent(np.arange(60))
    stay = found.latents["stay_id"].astype(int)
    assert (found.latents["set_row"] >= first[stay]).all() and (found.latents["set_row"] < (first + count)[stay]).all()
    with torch.no_grad():
        every = encoded_part(module, dataset[range(60)])
    whole = dict(zip(every.set_row.tolist(), every.mu[:, :4].tolist(), strict=True))
    for row, mu in zip(found.latents["set_row"], found.latents["mu"], strict=True):
        assert mu[:4] == pytest.approx(whole[row], abs=2e-3), "level 1: deeper levels see a draw of it"
    shown = found.reconstruction.groupby(["stay_id", "minute"]).ngroups
    assert shown == len(np.intersect1d(sample.shown, np.concatenate([batch.set_row for batch in sample.whole]))) == 100


def test_the_same_sets_at_every_evaluation(data):
    dataset = StayDataset(data, "train", DataConfig())
    one, other = choose(dataset, 36, seed=3), choose(dataset, 36, seed=3)
    assert one.sets.tolist() == other.sets.tolist() and one.shown.tolist() == other.shown.tolist()
    probe, module = StayProbe(dataset, 36), module_of(data)
    first, again = probe(module), probe(module)
    assert first.values == again.values
    pd.testing.assert_frame_equal(first.posterior, again.posterior)


def test_each_level_is_recorded_relative_to_its_prior(data):
    result = StayProbe(StayDataset(data, "train", DataConfig()), patients=STAYS)(module_of(data))
    values, frame = result.values, result.posterior
    assert values["mi_gauss_level_1"] + values["mi_gauss_level_2"] == pytest.approx(values["mi_gauss"], abs=1e-5)
    assert (values["active_ratio_level_1"] + values["active_ratio_level_2"]) / 2 == pytest.approx(values["active_ratio"])
    assert values["mi_gauss"] <= values["kl"] + 1e-6
    assert frame["kl"].to_numpy() == pytest.approx((frame["mi_gauss"] + frame["prior_gap"]).to_numpy(), abs=1e-5)
    one = StayProbe(StayDataset(data, "train", DataConfig()), patients=STAYS)(module_of(data, levels=1)).values
    assert not [name for name in one if "_level_" in name]


def test_a_level_that_follows_its_prior_is_passive(data, monkeypatch):
    """The posterior of level 2 replaced by its prior, which moves with level 1."""
    module = module_of(data)
    encode = module.net.encode

    def copying(*args, **options):
        encoded = encode(*args, **options)
        for q, p in zip(encoded.posterior, encoded.prior, strict=True):
            p[:, 4:] = 3 * encoded.z[:, :4]
            q[:, 4:] = p[:, 4:]
        return encoded

    monkeypatch.setattr(module.net, "encode", copying)
    result = StayProbe(StayDataset(data, "train", DataConfig()), patients=STAYS)(module)
    assert (result.values["active_ratio_level_2"], result.values["mi_gauss_level_2"]) == pytest.approx((0, 0), abs=1e-6)
    assert set(result.posterior["kind"][4:]) == {"passive"}
    assert result.posterior["kl"][4:].to_numpy() == pytest.approx(0, abs=1e-6)


def test_a_small_probe_gives_counts_and_no_figure(data):
    for patients in (1, 31):
        values = StayProbe(StayDataset(data, "train", DataConfig()), patients=patients)(module_of(data)).values
        assert values == {"patients": patients, "sets": values["sets"], "latent_dims": 8, "beta": 0.0}


def test_a_decoder_without_variance_has_no_residual_eigenvalue(data):
    probe = StayProbe(StayDataset(data, "train", DataConfig()), patients=STAYS)
    values = probe(module_of(data, decoder="chamfer")).values
    assert "residual_eigenvalue" not in values and values["explained"] is not None
    assert values["decoder_reliance"] is not None


def test_kinds_need_coordinates_relative_to_the_prior():
    """A narrow prior and the same posterior: in raw coordinates its small variance would pass for activity."""
    prior = Gaussian(torch.randn(200, 2), torch.full((200, 2), -3.0))
    raw = dimension_kinds(prior.mu.var(0), prior.logvar.exp().mean(0), prior.logvar.exp().var(0))
    assert raw == ["active", "active"]
    assert dimension_kinds(torch.zeros(2), torch.ones(2), torch.zeros(2)) == ["passive", "passive"]
