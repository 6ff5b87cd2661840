"""What the Checkpoints page says, as data: the list, hashes, insides, norms, differences and figures."""

import threading
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from dashboard.charts import Look
from dashboard.checkpoints.charts import change_figure, layers_of_distances, layers_of_norms, modules, norm_figure
from dashboard.checkpoints.frames import difference_frame, tensor_frame
from dashboard.checkpoints.hash import Check, Hash, check, unchecked
from dashboard.checkpoints.inside import Place, Shelf, place_of
from dashboard.checkpoints.listing import Checkpoint, Fault, list_folder
from dashboard.checkpoints.values import compare, measure
from dashboard.checkpoints.widgets import checkpoint_table, empty, groups
from dashboard.checkpoints.work import CheckpointWork, Lane
from dashboard.formats import size
from shared.errors import InputError
from shared.layout import RunLayout
from shared.reader import read_status
from shared.schema import RunState
from tests.checkpoint_folders import contents, every_state, save
from tests.public_vaes import ConvVAE, VAEXperiment
from tests.run_factory import make_run
from tests.tiny_runs import start, stays

__all__ = ["stays"]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    folder = tmp_path_factory.mktemp("states")
    outside = folder / "secret.txt"
    outside.write_text("secret")
    run = make_run(folder / "runs", "run", steps=10)
    every_state(run, outside)
    return run


def silent(share: float) -> None:
    assert 0 <= share <= 1


def checked(layout: RunLayout) -> dict[str, Hash]:
    """States after all hashes have been read."""
    work = CheckpointWork(lambda: None)
    here = list_folder(layout)
    for one in unchecked(here.checkpoints, work):
        assert one.identity
        work.ask_hash(one.path, one.identity).wait(10)
    return {one.name: check(one, work.known_hash(one.identity)).state for one in here.checkpoints}


def test_every_state_of_a_file_is_told_apart(layout: RunLayout) -> None:
    here = list_folder(layout)
    before = {one.name: check(one, None).state for one in here.checkpoints}
    assert {name for name, state in before.items() if state is Hash.UNCHECKED} == {
        "last.ckpt", "earlier_step-000000900.ckpt", "best_step-000000500_auroc-0.8123.ckpt", "final_step-000000900.ckpt",
    }  # fmt: skip
    assert before["interrupted_step-000000700.ckpt"] is Hash.DIFFERS, "a wrong size needs no reading"
    after = checked(layout)
    assert after == before | {
        "last.ckpt": Hash.OK, "earlier_step-000000900.ckpt": Hash.OK, "best_step-000000500_auroc-0.8123.ckpt": Hash.OK,
        "final_step-000000900.ckpt": Hash.DIFFERS,
    }  # fmt: skip
    assert after["earlier_step-000000300.ckpt"] is Hash.NO_SIDECAR
    assert after["earlier_step-000000400.ckpt"] is Hash.BAD_SIDECAR
    assert after["earlier_step-000000600.ckpt"] is Hash.GONE
    assert after["sneaky.ckpt"] is Hash.UNREADABLE
    assert here.named("last.ckpt").twins == ("earlier_step-000000900.ckpt",)
    assert [left.name for left in here.leftovers] == ["last.ckpt.tmp"]


def test_links_out_of_the_folder_are_not_followed(layout: RunLayout, tmp_path: Path) -> None:
    sneaky = list_folder(layout).named("sneaky.ckpt")
    assert sneaky.identity is None and "outside" in sneaky.problem
    other = make_run(tmp_path, "other", steps=5)
    other.checkpoints.symlink_to(layout.checkpoints)
    found = list_folder(other)
    assert not found.checkpoints and "link to somewhere outside" in found.problem
    inside = make_run(tmp_path, "inside", steps=5)
    save(inside, "best_step-000000005.ckpt", "best", 5)
    (inside.checkpoints / "last.ckpt").symlink_to("best_step-000000005.ckpt")
    (inside.checkpoints / "last.json").symlink_to(layout.run_json)
    last = list_folder(inside).named("last.ckpt")
    assert last.identity == list_folder(inside).named("best_step-000000005.ckpt").identity, "Lightning links last.ckpt"
    assert last.fault is Fault.BAD_SIDECAR


def test_folders_that_are_missing_or_closed(tmp_path: Path) -> None:
    assert list_folder(RunLayout(tmp_path)).checkpoints == []
    (tmp_path / "checkpoints").write_text("a file")
    assert "cannot be read" in list_folder(RunLayout(tmp_path)).problem


def test_the_list_escapes_names_and_marks_what_is_shown(layout: RunLayout, tmp_path: Path) -> None:
    (layout.checkpoints / "<b>bold.ckpt").write_bytes(b"x")
    here = list_folder(layout)
    (layout.checkpoints / "<b>bold.ckpt").unlink()
    table = checkpoint_table(here.checkpoints, {one.name: check(one, None) for one in here.checkpoints}, {},
                             {"run": "run", "checkpoint": "last.ckpt", "against": "weights.ckpt"})  # fmt: skip
    assert "<b>bold" not in table and "&lt;b&gt;bold.ckpt" in table
    assert table.count('class="sv-ckpt-a"') == table.count('class="sv-ckpt-b"') == 1
    assert "same bytes on the disk as earlier_step-000000900.ckpt" in table


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_our_own_checkpoints_in_every_precision(tmp_path: Path, precision: torch.dtype) -> None:
    run = make_run(tmp_path, "run", steps=5)
    path = save(run, "last.ckpt", "last", 800, precision=precision, beta_max=0.25)
    one = list_folder(run).named("last.ckpt")
    inside = Shelf().look(one.path, one.identity)
    assert inside.ours and inside.settled and inside.step == 800 and inside.epoch == 2.0 and not inside.calls
    assert inside.hyperparameters["loss.beta_max"] == "0.25" and inside.hyperparameters["trainer.init_from"] == "none"
    assert inside.state["optimizer 0, group 0.lr"] == "0.001"
    assert inside.count("weights") == 6 * 5 + 5 + 5 * 6 + 6 and inside.count("optimizer") > inside.count("weights")
    size_of = measure(path, silent)
    for name, value in torch.load(path)["state_dict"].items():
        assert size_of[Place("weights", name)].l2 == pytest.approx(value.double().norm().item())
    frame = tensor_frame(inside, size_of, "weights", "0 WEIGHT")
    assert list(frame["tensor"]) == ["net.0.weight"] and frame["shape"][0] == "5 × 6" and frame["type"][0] == str(precision)[6:]


def test_what_the_trainer_writes_is_read_as_torch_reads_it(stays: Path, tmp_path: Path) -> None:
    run = start(stays, tmp_path, max_epochs=1)
    assert set(checked(run).values()) == {Hash.OK}
    for one in list_folder(run).checkpoints:
        inside = Shelf().look(one.path, one.identity)
        assert inside.ours and inside.settled and not inside.calls and inside.step == one.sidecar.step
        assert inside.hyperparameters["model.width"] == "16" and inside.epoch == one.sidecar.epoch
        weights, size_of = torch.load(one.path, weights_only=True)["state_dict"], measure(one.path, silent)
        assert [place.name for place in inside.tensors if place.part == "weights"] == list(weights)
        for name, value in weights.items():
            assert size_of[Place("weights", name)].l2 == pytest.approx(value.double().norm().item())


class Saver(VAEXperiment):
    """Somebody else's module that keeps its hyperparameters."""

    def __init__(self, kld_weight: float = 0.25) -> None:
        super().__init__(ConvVAE(), kld_weight)
        self.save_hyperparameters()


def test_other_peoples_lightning_checkpoints(tmp_path: Path) -> None:
    trainer = L.Trainer(max_steps=2, logger=False, enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu",
                        enable_model_summary=False, default_root_dir=tmp_path)  # fmt: skip
    trainer.fit(Saver(), DataLoader(TensorDataset(torch.rand(8, 1, 28, 28), torch.zeros(8)), batch_size=4))
    run = make_run(tmp_path, "run", steps=5)
    trainer.save_checkpoint(run.checkpoints / "epoch=0-step=2.ckpt")
    one = list_folder(run).checkpoints[0]
    inside = Shelf().look(one.path, one.identity)
    assert (one.kind, one.fault, inside.ours, inside.step) == ("other", Fault.NO_SIDECAR, False, 2)
    assert inside.hyperparameters == {"kld_weight": "0.25"}
    assert Place("weights", "model.conv_mu.weight") in inside.tensors and inside.count("optimizer")


def test_a_hostile_checkpoint_is_named_and_shown_as_text(layout: RunLayout) -> None:
    one = list_folder(layout).named("weights.ckpt")
    inside = Shelf().look(one.path, one.identity)
    assert inside.dangerous == ["posix.system"] and not inside.ours
    assert "<img" not in groups(inside.hyperparameters) and "posix.system" in groups(inside.hyperparameters)
    layers = layers_of_norms({place.name: norms for place, norms in measure(one.path, silent).items()})
    assert layers[0].broken == 1
    assert norm_figure(layers, Look(), "x").layout.yaxis.ticktext == ("w (1 not finite)",)


def test_a_damaged_file_is_one_error_and_is_read_once(layout: RunLayout) -> None:
    one, shelf = list_folder(layout).named("interrupted_step-000000700.ckpt"), Shelf()
    for _ in range(2):
        with pytest.raises(InputError, match=r"interrupted_step-000000700\.ckpt: not a readable checkpoint"):
            shelf.look(one.path, one.identity)


def test_the_difference_names_every_fate(tmp_path: Path) -> None:
    a, b = contents(100, seed=3), contents(200, seed=3, beta_max=0.5)
    b["state_dict"]["net.0.weight"] += 0.5
    b["state_dict"]["net.2.bias"] = torch.zeros(7)
    b["state_dict"]["net.new"] = torch.zeros(1)
    a["state_dict"]["net.old"] = torch.zeros(1)
    a["state_dict"]["net.low"] = b["state_dict"]["net.low"] = torch.ones(2).to(torch.float8_e4m3fn)
    paths = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    for path, value in zip(paths, (a, b), strict=True):
        torch.save(value, path)
    found = compare(*paths, silent)
    assert [place.name for place in found.changed] == ["net.0.weight"]
    before = a["state_dict"]["net.0.weight"].double()
    assert found.changed[Place("weights", "net.0.weight")].relative == pytest.approx(0.5 * 30**0.5 / before.norm().item())
    inside = Shelf().look(paths[0], (0, 0, 0, 0))
    frame = difference_frame(inside, found, "weights", "")
    assert list(frame["fate"]) == ["changed", "another shape", "only in a", "only in b", "not read", "same", "same"]
    assert frame.set_index("fate").loc["another shape", "shape"] == "6 → 7"
    other = Shelf().look(paths[1], (0, 0, 0, 0))
    shown = groups(inside.hyperparameters, other.hyperparameters)
    assert "beta_max" in shown and "free_bits" not in shown, "only what differs"
    layers = layers_of_distances({place.name: apart for place, apart in found.distances.items() if place.part == "weights"})
    figure = change_figure(layers, Look(dark=True), "x")
    assert figure.layout.yaxis.ticktext[1].endswith("(unchanged)") and figure.layout.xaxis.type == "log"


def test_modules_are_as_fine_as_there_is_room() -> None:
    names = [f"net.blocks.{number}.{part}.weight" for number in range(6) for part in ("norm", "ffn")]
    assert len(set(modules(names, most=12).values())) == 12
    assert set(modules(names, most=11).values()) == {f"net.blocks.{number}" for number in range(6)}
    assert set(modules(names, most=5).values()) == {"net.blocks"}
    assert modules(["w"]) == {"w": "w"} and modules([]) == {}


@pytest.mark.parametrize(
    ("path", "part", "name"),
    [
        (("state_dict", "a.weight"), "weights", "a.weight"), (("a.weight",), "weights", "a.weight"), ((), "weights", "the only tensor"),
        (("optimizer_states", "0", "state", "1", "exp_avg"), "optimizer", "0.state.1.exp_avg"),
        (("model", "a"), "weights", "a"), (("callbacks", "ema", "a"), "other", "callbacks.ema.a"),
    ],
)  # fmt: skip
def test_tensors_lie_under_what_they_belong_to(path: tuple[str, ...], part: Any, name: str) -> None:
    assert place_of(path) == Place(part, name)


def test_the_next_checkpoint_is_foretold(tmp_path: Path) -> None:
    running = read_status(make_run(tmp_path, "running", state=RunState.RUNNING, steps=620))
    assert "due at step 1,000, in about 1 min 59 s" in empty(running)
    assert "ended before it saved one" in empty(read_status(make_run(tmp_path, "over", steps=20)))


def test_work_is_done_once_and_its_thread_ends() -> None:
    told, release, calls = threading.Event(), threading.Event(), []

    def reading(report: Any) -> int:
        calls.append(1)
        report(0.5)
        release.wait(10)
        return 7

    lane = Lane(told.set)
    task = lane.ask("key", reading)
    assert lane.ask("key", reading) is task and told.wait(10) and task.share == 0.5 and task.running
    release.set()
    assert task.wait(10).result == 7 and calls == [1]

    def failing(_report: Any) -> int:
        raise InputError("no")

    failed = lane.ask("other", failing).wait(10)
    assert failed.problem == "no" and lane.ask("other", failing) is failed
    assert lane.ask("other", lambda _report: 8, again=True).wait(10).result == 8
    thread = lane._thread
    if thread is not None:
        thread.join(10)
    assert lane._thread is None


def test_a_file_replaced_before_its_hash_is_read_is_not_judged(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", steps=5)
    save(run, "last.ckpt", "last", 1)
    one = list_folder(run).named("last.ckpt")
    save(run, "last.ckpt", "last", 2)
    task = CheckpointWork(lambda: None).ask_hash(one.path, one.identity).wait(10)
    assert task.result is None and "was replaced" in task.problem


def test_sizes_as_people_read_them() -> None:
    assert [size(value) for value in (None, 5, 999, 1_000, 2_638_105, 3e9, 4.2e12)] == [
        "–",
        "5 B",
        "999 B",
        "1 kB",
        "2.64 MB",
        "3 GB",
        "4.2 TB",
    ]
    assert "<span>4.2 TB</span>" in checkpoint_table(
        [
            Checkpoint(
                name="last.ckpt",
                kind="last",
                path=Path("last.ckpt"),
                identity=(1, 2, 4_200_000_000_000, 3),
                at=None,
                sidecar=None,
                fault=None,
                problem="",
            )
        ],
        {"last.ckpt": Check(Hash.UNCHECKED, "")},
        {},
        {"run": "a"},
    )
