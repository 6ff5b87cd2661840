"""Values of TensorBoard tags: the same as in a table in memory, however many there are and in whatever order they come."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import tensorboard_scalars
from backend.tensorboard_records import masked_crc
from backend.tensorboard_rows import merged
from backend.tensorboard_scalars import Scalars

FILES = st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=3)


def written(files: list[list[int]]) -> tuple[Scalars, dict[int, float]]:
    """The values of the given steps, one list for each file, and what a plain table says of them."""
    scalars, table, value = Scalars(), dict[int, float](), 0.0
    for steps in files:
        scalars.next_file()
        if steps:
            table = {step: old for step, old in table.items() if step < min(steps)}
        for step in steps:
            value += 1.0
            table[step] = value
            scalars.add(step, 100.0 + value, value)
    return scalars, dict(sorted(table.items()))


@given(FILES)
def test_files_smaller_than_a_chunk_are_what_a_table_says(files: list[list[int]]) -> None:
    scalars, table = written(files)
    assert dict(zip(scalars, scalars.whole()["value"].tolist(), strict=True)) == table
    assert scalars == table and len(scalars) == len(table)
    assert scalars.last_step == max(table, default=-1)


@pytest.mark.parametrize("spill", [64, 1 << 20])
@given(st.lists(st.integers(0, 60), max_size=80))
def test_chunks_and_the_disk_change_nothing(spill: int, steps: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard_scalars, "CHUNK", 4)
        patch.setattr(tensorboard_scalars, "SPILL", spill)
        scalars, table = written([steps])
        assert scalars == table
        assert [step for block in scalars.blocks(after=30) for step in block["step"].tolist()] == [s for s in table if s > 30]


def test_a_step_that_was_not_logged_is_an_error() -> None:
    scalars, _ = written([[1, 3]])
    assert scalars[3] == 2.0
    with pytest.raises(KeyError):
        scalars[2]
    assert 2 not in scalars


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 60), min_size=1, max_size=40)))
def test_rows_are_the_values_of_each_step(tags: dict[str, list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard_scalars, "CHUNK", 4)
        tables = {name: written([steps]) for name, steps in tags.items()}
        rows = [row for table in merged({name: scalars for name, (scalars, _) in tables.items()}) for row in table.rows()]
    steps = [step for step, _, _ in rows]
    assert steps == sorted({step for _, table in tables.values() for step in table})
    for step, wall, values in rows:
        assert values == {name: table[step] for name, (_, table) in tables.items() if step in table}
        assert wall == 100.0 + max(values.values())


def test_a_value_that_is_not_a_number_is_in_its_row() -> None:
    scalars = Scalars()
    scalars.add(5, 0.0, float("nan"))
    ((step, _, values),) = [row for table in merged({"loss": scalars}) for row in table.rows()]
    assert step == 5 and np.isnan(values["loss"])


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_checksums_are_those_of_tensorboard(contents: list[bytes]) -> None:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    for length, group in groupby(sorted(contents, key=len), key=len):
        rows = list(group)
        data = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), length)
        assert masked_crc(data).tolist() == [masked_crc32c(row) for row in rows]
