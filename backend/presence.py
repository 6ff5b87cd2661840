"""The `presence` snapshot: how likely the decoder held each variable to occur in each set that is shown, and whether it did."""

import numpy as np
import pandas as pd

from backend.probe_parts import DecodedPart

MOST_VARIABLES = 128
"""Of a large vocabulary the variables that occur most often: 2,048 sets of them are half a megabyte."""


def presence_frame(decoded: DecodedPart, shown: np.ndarray, stay_id: np.ndarray, names: np.ndarray) -> pd.DataFrame | None:
    """One line for each of the sets `shown` [S], rows of `decoded.sets`; None where the decoder has no such probability.

    `stay_id` [S] are their stays, `names` [V] the vocabulary. `probability` and `occurred` are lists in the order of the
    variables in `frame.attrs["variables"]`, which parquet keeps.
    """
    if not decoded.occurrence.shape[1]:
        return None
    occurred = np.zeros((len(decoded.recon), len(names)), bool)
    occurred[decoded.event_set.numpy(), decoded.variable.numpy()] = True
    occurred = occurred[shown]
    kept = np.sort(np.argsort(-occurred.sum(axis=0), kind="stable")[:MOST_VARIABLES])
    probability = decoded.occurrence.numpy()[shown][:, kept].astype(np.float16)
    frame = pd.DataFrame(
        {
            "stay_id": stay_id,
            "minute": decoded.sets.minute.numpy()[shown],
            "probability": list(probability),
            "occurred": list(occurred[:, kept]),
        }
    )
    frame.attrs["variables"] = names[kept].tolist()
    return frame
