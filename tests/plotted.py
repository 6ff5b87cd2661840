"""Our figures, which are dictionaries, as plotly's own objects: it refuses what plotly.js would not understand."""

import base64
from typing import Any

import numpy as np
import orjson
import plotly.graph_objects as go

from dashboard.charts import Figure, to_json


def plotted(figure: Figure) -> go.Figure:
    """The figure as it reaches the browser."""
    sent = orjson.loads(to_json(figure))
    data = [{name: unpacked(value) if _is_packed(value) else value for name, value in trace.items()} for trace in sent["data"]]
    return go.Figure(data=data, layout=sent["layout"])


def unpacked(packed: dict[str, str]) -> np.ndarray:
    """The numbers in base64."""
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype="<" + packed["dtype"]).astype(float)


def _is_packed(value: Any) -> bool:
    return isinstance(value, dict) and "bdata" in value
