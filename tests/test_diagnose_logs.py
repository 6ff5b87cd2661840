"""`diagnose` on TensorBoard logs: the part that scalars allow, and what they leave open."""

from pathlib import Path

import orjson
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from backend.__main__ import main
from tests.reports import ALARM, UNKNOWN, WARNING, json_of, report_of


def log_training(folder: Path, beta: float, *, free_bits: float = 0.0, over_dims: bool = False, held_out: bool = False) -> Path:
    """A linear VAE of 6 units, trained for a second, its scalars logged as people do."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = torch.randn(1000, 12) * torch.logspace(0.5, -0.3, 12)
    encoder, decoder = torch.nn.Linear(12, 12), torch.nn.Linear(6, 12)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    with SummaryWriter(folder) as writer:
        for step in range(250):
            x, weight = data[torch.randint(0, 1000, (64,))], beta * min(step / 60, 1)
            mu, logvar = encoder(x).chunk(2, dim=-1)
            error = 0.5 * (x - decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu))).square().sum(-1).mean()
            each = (0.5 * (logvar.exp() + mu.square() - 1 - logvar)).mean(0)
            kl = each.clamp(min=free_bits).sum()
            loss = error + weight * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("train/kl_loss", kl.item() / (6 if over_dims else 1), step)
            writer.add_scalar("train/recon_loss", error.item(), step)
            writer.add_scalar("train/total_loss", loss.item(), step)
            writer.add_scalar("schedule/beta", weight, step)
            if held_out and step % 10 == 0:
                writer.add_scalar("val/recon_loss", error.item() + max(step - 100, 0) * 0.05, step)
    return folder


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return log_training(tmp_path_factory.mktemp("tb") / "collapsed", beta=20.0)


def test_a_logged_kl_near_zero_proves_collapse_once_it_is_known_to_be_a_sum(
    collapsed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json_of(capsys, str(collapsed))["reports"][0]
    assert (report["severity"], report["verdicts"][0]["kind"]) == ("warning", "collapse")
    assert "--kl_mean_over" in report["verdicts"][0]["detail"]
    assert report["tags"] == {
        "beta": "schedule/beta", "kl": "train/kl_loss", "loss": "train/total_loss", "recon": "train/recon_loss",
    }  # fmt: skip
    report = json_of(capsys, str(collapsed), "--kl_mean_over", "1")["reports"][0]
    assert report["severity"] == "alarm"
    assert report["commands"] == {}


def test_scalars_never_prove_health_and_say_what_is_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = report_of(capsys, str(log_training(tmp_path / "healthy", beta=0.3)))
    assert status == UNKNOWN
    assert "that it looks healthy proves nothing" in " ".join(text.split())
    assert "Figures, the last of each\n" in text and "Reconstruction loss" in text
    assert "nats / set" not in text, "scales of a log are its own"
    assert "healthy\n" not in text.lower().replace("show a healthy posterior\n", "")
    for what in (
        "active units, partial collapse, constant shift",
        "a decoder that ignores its latents",
        "KL explosion",
        "overfitting",
    ):
        assert f"- {what}: " in text


def test_a_floor_under_the_kl_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = report_of(capsys, str(log_training(tmp_path / "floor", beta=20.0, free_bits=0.2)))
    assert status == UNKNOWN
    assert "train/kl_loss rests on 1.2" in text
    assert "a floor (free bits) hides what the KL really is" in " ".join(text.split())


def test_a_mean_over_dimensions_is_scaled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = log_training(tmp_path / "mean", beta=5.0, over_dims=True)
    plain = json_of(capsys, str(folder))["reports"][0]
    scaled = json_of(capsys, str(folder), "--kl_mean_over", "6")["reports"][0]
    assert plain["severity"] == "warning", "0.08 nats could be a sum, and collapsed"
    assert scaled["severity"] == "insufficient"
    assert "KL explosion" not in [item["what"] for item in scaled["unjudged"]]


def test_overfitting_needs_no_latents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json_of(capsys, str(log_training(tmp_path / "over", beta=0.3, held_out=True)))["reports"][0]
    assert "overfitting" in [verdict["kind"] for verdict in report["verdicts"]]


def test_nan_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SummaryWriter(tmp_path) as writer:
        for step in range(50):
            writer.add_scalar("loss", 1.0 if step < 40 else float("nan"), step)
    report = json_of(capsys, str(tmp_path))["reports"][0]
    assert report["severity"] == "alarm"
    assert report["verdicts"][0]["kind"] == "nonfinite"
    assert report["verdicts"][0]["began"] == 40
    assert report["figures"]["loss"] is None


def test_a_log_without_a_known_kl_names_its_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SummaryWriter(tmp_path) as writer:
        for step in range(100):
            writer.add_scalar("my/divergence", 1e-6, step)
    status, text = report_of(capsys, str(tmp_path))
    assert status == UNKNOWN
    assert "None of 1 tags is known as a KL; name it with --tag kl=TAG" in " ".join(text.split())
    assert "my/divergence" in text
    assert report_of(capsys, str(tmp_path), "--tag", "kl=my/divergence")[0] == ALARM


def test_one_damaged_log_among_several_is_left_out(collapsed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good").symlink_to(collapsed)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/events.out.tfevents.1").write_bytes(b"nothing")
    log_training(tmp_path / "other", beta=0.3)
    assert main(["diagnose", str(tmp_path), "--json"]) in (WARNING, UNKNOWN)
    out, err = capsys.readouterr()
    assert orjson.loads(out)["reports"]
    assert "left out" in err
    assert main(["diagnose", str(tmp_path / "bad")]) == 2
    assert "no event can be read" in capsys.readouterr().err
