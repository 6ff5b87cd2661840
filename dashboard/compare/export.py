"""The logged values of chosen runs as one long table, whole and in bounded memory: `GET /compare-export?run=a&format=csv`.

One line per value: run, step, epoch, time, role, metric, value. Nothing is thinned, smoothed or cut off. A value that was not
finite is NaN; a step at which a metric was not measured has no line. Epoch and time are empty where the log does not tell them.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from dashboard.charts import Role
from dashboard.compare.view import MOST_RUNS, Ref, View
from dashboard.runs.loading import resolve_run
from shared.layout import SCHEMA_VERSION, RunLayout
from shared.probes import nonfinite_names
from shared.reader import each_row

PATH = "/compare-export"
Format = Literal["csv", "parquet"]
TYPES: dict[Format, str] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
BLOCK_ROWS = 20_000
"""Steps held at a time."""
TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("run", TEXT), ("step", pa.int64()), ("epoch", pa.float64()), ("time", pa.float64()), ("role", TEXT), ("metric", TEXT),
     ("value", pa.float64())],
    metadata={"schema_version": str(SCHEMA_VERSION), "about": "SeqSetVAE Monitor: one row per logged value; time in unix seconds"},
)  # fmt: skip
Place = tuple[float | None, float | None]


class Chunks:
    """A file that is only written: what pyarrow writes is taken away piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Keep a copy."""
        kept = bytes(data)
        self._parts.append(kept)
        self._at += len(kept)
        return len(kept)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The end."""
        self.closed = True

    def readable(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Never: what was taken is gone."""
        return False

    def take(self) -> bytes:
        """What was written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def tables(runs: Sequence[RunLayout], refs: Sequence[Ref]) -> Iterator[pa.Table]:
    """The long table in pieces: run by run, training before evaluations, each in the order of its log."""
    for layout in runs:
        names = {role: [name for at, name in refs if at == role] for role in get_args(Role)}
        wanted = {row["step"] for row in each_row(layout.evaluations)}
        places: dict[int, Place] = {}
        for block in _blocks(each_row(layout.metrics)):
            places |= {row["step"]: (row.get("epoch"), row.get("time")) for row in block if row["step"] in wanted}
            yield _long(layout.root.name, block, "training", names["training"], places)
        evaluations: Role
        for evaluations in ("probe", "validation"):
            rows = (row for row in each_row(layout.evaluations) if row.get("kind") == evaluations)
            for block in _blocks(rows):
                yield _long(layout.root.name, block, evaluations, names[evaluations], places)


def _blocks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while block := list(islice(rows, BLOCK_ROWS)):
        yield block


def _long(run: str, rows: list[dict[str, Any]], role: Role, names: Sequence[str], places: dict[int, Place]) -> pa.Table:
    """The values of one block; the time and epoch of an evaluation are those of its training step where it has none itself."""
    steps, epochs, times, metrics, values = [], [], [], [], []
    for row in rows:
        step = row["step"]
        epoch, time = places.get(step, (None, None))
        epoch, time = row.get("epoch", epoch), row.get("time", time)
        bad = nonfinite_names(row)
        for name in names:
            value = row.get(name)
            if isinstance(value, int | float) or name in bad:
                steps.append(step)
                epochs.append(epoch)
                times.append(time)
                metrics.append(name)
                values.append(float("nan") if name in bad else float(value))  # type: ignore[arg-type]
    constant = {"run": run, "role": role}
    columns = {"step": steps, "epoch": epochs, "time": times, "metric": metrics, "value": values} | {
        name: [text] * len(steps) for name, text in constant.items()
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def stream(runs: Sequence[RunLayout], refs: Sequence[Ref], form: Format) -> Iterator[bytes]:
    """The file, piece by piece."""
    sink = Chunks()
    file = pa.PythonFile(sink, mode="w")
    plain = pa.schema([pa.field(field.name, pa.string() if field.type == TEXT else field.type) for field in SCHEMA])
    with pa_csv.CSVWriter(file, plain) if form == "csv" else pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for table in tables(runs, refs):
            if table.num_rows:
                writer.write_table(table.cast(plain) if form == "csv" else table)
            yield sink.take()
    file.flush()
    yield sink.take()


def export_route(folder: Path) -> Route:
    """`GET /compare-export?run=NAME&run=NAME&metrics=SET&format=csv|parquet`: names are looked up in `folder` and nowhere else."""
    return Route(PATH, _answer(folder), methods=["GET"])


def _answer(folder: Path) -> Callable[[Request], Response]:
    def send(request: Request) -> Response:
        form = request.query_params.get("format", "csv")
        view = View.of({name: request.query_params.getlist(name) for name in request.query_params})
        found = [resolve_run(folder, name) for name in view.run[:MOST_RUNS]]
        runs = [layout for layout in found if layout is not None]
        if form not in get_args(Format):
            return PlainTextResponse(f"format is {form!r}; ask for format=csv or format=parquet", status_code=400)
        if not runs:
            return PlainTextResponse("none of the runs in this address exists; name some with run=NAME", status_code=404)
        kind: Format = "csv" if form == "csv" else "parquet"
        headers = {"Content-Disposition": f'attachment; filename="compared-runs.{kind}"', "Cache-Control": "no-store"}
        return StreamingResponse(stream(runs, view.refs, kind), media_type=TYPES[kind], headers=headers)

    return send
