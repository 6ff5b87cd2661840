"""Tables of tensors as frames: sizes of their values, and what became of each between two checkpoints."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dashboard.checkpoints.inside import Inside, Part, Place
from dashboard.checkpoints.values import Difference
from shared.torch_objects import Tensor
from shared.torch_values import READABLE, Norms

FATES = {"changed": 0, "another shape": 1, "only in a": 2, "only in b": 3, "not read": 4, "same": 5}
"""What may become of a tensor, in the order of the table."""


def shape(tensor: Tensor) -> str:
    """`64 × 41`; a single value is `1`."""
    return " × ".join(f"{length:,}" for length in tensor.shape) or "1"


def tensor_frame(inside: Inside, norms: Mapping[Place, Norms] | None, part: Part | None, search: str) -> pd.DataFrame:
    """Tensors of one part (None: all) whose name holds every word of `search`, in the file's order; norms are NaN until known."""
    words = search.lower().split()
    rows = []
    for place, tensor in inside.tensors.items():
        name = place.name if part else f"{place.part}: {place.name}"
        if (part and place.part != part) or not all(word in name.lower() for word in words):
            continue
        one = norms.get(place) if norms else None
        rows.append({
            "tensor": name, "shape": shape(tensor), "type": tensor.dtype if tensor.dtype in READABLE else f"{tensor.dtype} (values not read)",
            "values": tensor.values, "rms": one.rms if one else None, "l2": one.l2 if one else None,
            "largest": one.largest if one else None, "mean": one.mean if one else None,
            "zeros": 100 * one.share_of_zeros if one else None, "not finite": one.nans + one.infinities if one else None,
        })  # fmt: skip
    columns = ["tensor", "shape", "type", "values", "rms", "l2", "largest", "mean", "zeros", "not finite"]
    return pd.DataFrame(rows, columns=columns)


def difference_frame(a: Inside, found: Difference, part: Part | None, search: str) -> pd.DataFrame:
    """What became of each tensor; those that changed come first, by how much relative to their size."""
    rows: list[dict[str, Any]] = [
        {
            "tensor": place, "fate": "changed" if apart.differing else "same", "relative": apart.relative, "distance": apart.l2,
            "largest": apart.largest, "values": apart.differing, "shape": shape(a.tensors[place]),
        }
        for place, apart in found.distances.items()
    ]  # fmt: skip
    rows += [{"tensor": place, "fate": "only in a", "shape": shape(tensor)} for place, tensor in found.only_a.items()]
    rows += [{"tensor": place, "fate": "only in b", "shape": shape(tensor)} for place, tensor in found.only_b.items()]
    rows += [
        {"tensor": place, "fate": "another shape", "shape": f"{shape(a)} → {shape(b)}"}
        for place, (a, b) in found.reshaped.items()
    ]
    rows += [{"tensor": place, "fate": "not read", "shape": shape(a.tensors[place])} for place in found.unread]
    words = search.lower().split()
    kept = []
    for row in rows:
        place = row["tensor"]
        name = place.name if part else f"{place.part}: {place.name}"
        if (part is None or place.part == part) and all(word in name.lower() for word in words):
            kept.append({**row, "tensor": name})
    columns = ["tensor", "fate", "relative", "distance", "largest", "values", "shape"]
    frame = pd.DataFrame(kept, columns=columns)
    order = frame["fate"].map(FATES)
    frame = frame.assign(order=order).sort_values(["order", "relative"], ascending=[True, False], kind="stable")
    return frame.drop(columns="order").reset_index(drop=True)
