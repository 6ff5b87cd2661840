"""Reading checkpoints without unpickling: the same as torch reads, nothing executed, and one clear error for anything else."""

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.torch_file import TorchFile, open_torch_file
from shared.torch_objects import Opaque, Tensor
from shared.torch_pickle import DamagedPickleError, read_pickle
from shared.torch_values import PIECE, blocks, distance, norms, read_block

KINDS = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def values(file: TorchFile, tensor: Tensor) -> np.ndarray:
    """All values at once, by way of blocks."""
    result = np.zeros(tensor.shape, np.complex128)
    for block in blocks(tensor.shape, [tensor.stride]):
        part = tuple(slice(*ends) for ends in block)
        result[part] = read_block(file, tensor, block).reshape(result[part].shape)
    return result


def assert_same(ours: Any, theirs: Any, file: TorchFile) -> None:
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, Tensor) and ours.shape == tuple(theirs.shape)
        assert ours.dtype == str(theirs.dtype).removeprefix("torch.")
        wide = torch.complex128 if theirs.dtype.is_complex else torch.float64
        assert np.array_equal(values(file, ours), theirs.to(wide).numpy(), equal_nan=True)
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict) and list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key], file)
    elif isinstance(theirs, list | tuple):
        assert isinstance(ours, list if isinstance(theirs, list) else tuple) and len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other, file)
    else:
        assert type(ours) is type(theirs) and (ours == theirs or ours != ours)


tensors = st.builds(
    lambda kind, shape, seed, turn: (
        turned := (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3).to(torch.float32).abs().to(kind),
        turned.transpose(0, -1) if turn and turned.dim() else turned[..., 1:] if turned.dim() else turned,
    )[1],
    st.sampled_from(KINDS), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 9), st.booleans(),
)  # fmt: skip
plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 59), 1 << 59), st.floats(), st.text(st.characters(codec="utf-8")), tensors,
    st.complex_numbers(), st.binary().map(bytearray).map(lambda raw: raw.hex()),
)  # fmt: skip
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(st.characters(codec="utf-8")) | st.integers(-9, 1 << 40), inner, max_size=4),
        st.dictionaries(st.text("ab."), inner, max_size=4).map(OrderedDict),
    ), max_leaves=12,
)  # fmt: skip


@given(value=nested, protocol=st.sampled_from([2, 3, 4, 5]))
def test_reads_what_torch_reads(value: Any, protocol: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = saved(tmp_path_factory.getbasetemp() / "nested.ckpt", value, pickle_protocol=protocol)
    with open_torch_file(path) as file:
        assert_same(file.contents.value, torch.load(path, weights_only=protocol == 2), file)
        assert file.contents.calls == ()


@given(data=st.binary(max_size=300))
def test_random_bytes_are_no_pickle(data: bytes) -> None:
    try:
        read_pickle(data)
    except DamagedPickleError as error:
        assert str(error)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint with tied weights, an optimizer and a transposed buffer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state = {**model.state_dict(), "tied": model[0].weight.data, "turned": torch.arange(6.0).reshape(2, 3).T}
    value = {"state_dict": state, "optimizer_states": [optimizer.state_dict()], "hyper_parameters": {"lr": 1e-3, "who": "añ"}}
    return saved(tmp_path_factory.mktemp("real") / "real.ckpt", value).read_bytes()


@given(seed=st.integers(0, 10**6), changes=st.integers(1, 12), cut=st.booleans())
def test_mutated_checkpoints_end_in_one_error_or_are_read(
    real: bytes, seed: int, changes: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bytes changed, anywhere or in the pickle alone, and files cut off."""
    draw = random.Random(seed)
    damaged = bytearray(real)
    end = len(real) if draw.random() < 0.3 else 2500
    for _ in range(changes):
        damaged[draw.randrange(end)] = draw.choice((0, 0xFF, 0x2E, 0x52, 0x75, 0x85, draw.randrange(256)))
    path = tmp_path_factory.getbasetemp() / "mutated.ckpt"
    path.write_bytes(damaged[: draw.randrange(len(damaged))] if cut else damaged)
    try:
        with open_torch_file(path) as file:
            for named in file.tensors:
                if named.tensor.bytes < 1 << 20:
                    norms(file, named.tensor)
    except InputError as error:
        assert str(path) in str(error) and len(str(error)) < 600


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_nothing_is_executed_and_what_would_be_is_named(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "ran"
    value = {"state_dict": {"w": torch.ones(2)}, "hyper_parameters": {"a": 1, "evil": Evil(f"touch {witness}")}}
    path = saved(tmp_path / "evil.ckpt", value, pickle_protocol=protocol) if protocol > 1 else None
    if path is None:
        contents = read_pickle(pickle.dumps(value["hyper_parameters"], protocol))
        evil = contents.value["evil"]
    else:
        with open_torch_file(path) as file:
            contents, evil = file.contents, file.contents.value["hyper_parameters"]["evil"]
            assert norms(file, file.tensors[0].tensor).l2 == pytest.approx(2**0.5)
    assert contents.calls == ("posix.system",)
    assert isinstance(evil, Opaque) and str(evil) == "posix.system, not read"
    assert not witness.exists()
    if path is not None:  # the test can fail: unpickling does run it
        torch.load(path, weights_only=False)
        assert witness.exists()


def bomb(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


@pytest.mark.parametrize(
    "data",
    [
        b"(" * 100_000 + b".", b"(l" * 3_000_000, bomb(b"]q\x00", b"h\x00a" * 5), bomb(b"(" * 9, b"ttttttttt"),
        bomb(b"Nq\x00", b"(h\x00h\x00tq\x00" * 60), bomb(b"}q\x00", b"(h\x00h\x00tq\x00" * 60, b"Ns"),
        bomb(b"\x8b\xff\xff\xff\x7f\x01"), bomb(b"X\xff\xff\xff\x7fabc"), bomb(b"\x8d" + b"\xff" * 8), b"\x80\x02.", b"", b"N",
        bomb(b"cos\nsystem\nq\x00", b"(X\x01\x00\x00\x00aN" * 1, b"d", b"q\x01", b"h\x00h\x01\x85R" * 3),
    ],
)  # fmt: skip
def test_hostile_pickles_end(data: bytes) -> None:
    """Deep, cyclic, doubling and lying ones: an answer or an error, soon and small."""
    try:
        assert read_pickle(data) is not None
    except DamagedPickleError as error:
        assert len(str(error)) < 300


def test_copies_are_paid_for() -> None:
    """A short file that has one long list copied again and again."""
    data = bomb(b"(" + b"N" * 100_000 + b"lq\x00", b"c__builtin__\nset\nq\x01", b"h\x01h\x00\x85R" * 10_000)
    with pytest.raises(DamagedPickleError, match="more than 2,000,000 entries"):
        read_pickle(data)


def test_a_doubling_tree_of_tensors_is_refused(tmp_path: Path) -> None:
    tree: Any = torch.ones(1)
    for _ in range(40):
        tree = [tree, tree]
    with (
        pytest.raises(InputError, match=r"tree\.ckpt: not a readable checkpoint: more than 500,000 values"),
        open_torch_file(saved(tmp_path / "tree.ckpt", tree)),
    ):
        pass


def test_cycles_are_walked_once(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"w": torch.ones(2)}
    loop["self"] = [loop]
    with open_torch_file(saved(tmp_path / "loop.ckpt", loop)) as file:
        assert [named.path for named in file.tensors] == [("w",)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a zip file"), (b"hello", "not a zip file"), (b"PK\5\6" + b"\0" * 18, "without the data.pkl"),
        (b"PK\5\6" + b"\0" * 6 + b"\1\0\xff\xff\xff\x7f" + b"\0" * 6, "not a zip file"),
    ],
)  # fmt: skip
def test_other_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with (
        pytest.raises(InputError, match=rf"x\.ckpt: not a readable checkpoint: .*{words}.*; restore it"),
        open_torch_file(path),
    ):
        pass


def test_compressed_or_short_members_are_refused(tmp_path: Path, real: bytes) -> None:
    source = tmp_path / "real.ckpt"
    source.write_bytes(real)
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    squeezed, short = tmp_path / "squeezed.ckpt", tmp_path / "short.ckpt"
    for path, method, cut in ((squeezed, zipfile.ZIP_DEFLATED, 0), (short, zipfile.ZIP_STORED, 4)):
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, data[: len(data) - cut] if name.endswith("data/0") else data)
    for path, words in ((squeezed, "compressed"), (short, "tensor 'state_dict.0.weight' needs 48 bytes of a storage of 44")):
        with pytest.raises(InputError, match=words), open_torch_file(path):
            pass


def test_links_folders_and_pipes_are_not_opened(tmp_path: Path, real: bytes) -> None:
    (tmp_path / "real").write_bytes(real)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "none", "."):
        with pytest.raises(InputError), open_torch_file(tmp_path / name):
            pass


def test_norms_count_what_is_not_finite(tmp_path: Path) -> None:
    tensor = torch.tensor([3.0, -4.0, 0.0, torch.nan, torch.inf, -torch.inf], dtype=torch.bfloat16)
    with open_torch_file(
        saved(tmp_path / "n.ckpt", {"w": tensor, "none": torch.empty(0), "big": torch.full((3,), 1e300, dtype=torch.float64)})
    ) as file:
        found = {named.path[0]: norms(file, named.tensor) for named in file.tensors}
    size = found["w"]
    assert (size.values, size.nans, size.infinities, size.zeros) == (6, 1, 2, 1)
    assert (size.l2, size.largest, size.mean) == pytest.approx((5.0, 4.0, -1 / 3))
    assert size.rms == pytest.approx(5 / 3**0.5) and size.share_of_zeros == pytest.approx(1 / 6)
    assert found["none"].values == 0 and np.isnan(found["none"].rms)
    assert found["big"].l2 == pytest.approx(1e300 * 3**0.5), "squares of it are beyond float64"


def test_distance_of_turned_and_halved_tensors(tmp_path: Path) -> None:
    torch.manual_seed(1)
    a = torch.randn(1500, 1100)
    b = (a + 0.01 * torch.randn(1500, 1100)).bfloat16().T.contiguous().T
    paths = [saved(tmp_path / name, {"w": value}) for name, value in (("a.ckpt", a), ("b.ckpt", b))]
    with open_torch_file(paths[0]) as file_a, open_torch_file(paths[1]) as file_b:
        apart = distance(file_a, file_a.tensors[0].tensor, file_b, file_b.tensors[0].tensor)
    expected = (a.double() - b.double()).norm() / a.double().norm()
    assert apart.relative == pytest.approx(expected.item())
    assert apart.largest == pytest.approx((a.double() - b.double()).abs().max().item())
    assert apart.differing == int((a.double() != b.double()).sum())


@given(shape=st.lists(st.integers(1, 5000), min_size=1, max_size=3), order=st.randoms(use_true_random=False))
def test_blocks_cover_a_shape_once_and_are_bounded(shape: list[int], order: random.Random) -> None:
    while np.prod(shape) > 1 << 24:
        shape = [max(length // 2, 1) for length in shape]
    axes = list(range(len(shape)))
    order.shuffle(axes)
    stride, step = [0] * len(shape), 1
    for axis in axes:
        stride[axis], step = step, step * shape[axis]
    covered = 0
    for block in blocks(tuple(shape), [tuple(stride)]):
        lengths = [stop - start for start, stop in block]
        covered += int(np.prod(lengths))
        assert sum((length - 1) * step for length, step in zip(lengths, stride, strict=True)) < PIECE
    assert covered == np.prod(shape)
