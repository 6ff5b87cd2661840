"""What leaves the Compare page: the table of all values, and the report. Both as bytes, without a browser."""

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dashboard.application import report_route
from dashboard.charts import Look
from dashboard.compare.cards import relations
from dashboard.compare.choice import Choice
from dashboard.compare.config import groups
from dashboard.compare.curves import Drawn
from dashboard.compare.export import BLOCK_ROWS, Format, export_route, stream
from dashboard.compare.outcomes import result
from dashboard.compare.relations import Axis, option_axes, parallel_axes
from dashboard.compare.report import report
from dashboard.compare.results import table
from dashboard.compare.view import SETS, View
from dashboard.service import Service
from shared.layout import RunLayout
from tests.compared import compared_run, line_rows, loaded, sweep
from tests.run_factory import make_run

REFS = (("training", "loss"), ("training", "kl"), ("validation", "auroc"))
EVIL = "</script><img src=x onerror=alert(1)>".replace("/", "∕")
BREAKING = "</script><script>alert(1)</script>"


def exported(runs: list[RunLayout], form: Format) -> pd.DataFrame:
    data = io.BytesIO(b"".join(stream(runs, REFS, form)))  # type: ignore[arg-type]
    return pd.read_csv(data) if form == "csv" else pd.read_parquet(data)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_logged_value_is_exported(tmp_path: Path, form: Format) -> None:
    steps = BLOCK_ROWS + 1500
    rows = line_rows(2.0, steps=steps, time=1.7e9)
    rows[7]["loss"] = float("nan")
    del rows[8]["loss"]
    a = compared_run(tmp_path, 'a, with "quotes"', rows=rows, steps=300)
    b = make_run(tmp_path, "b", steps=300)
    frame = exported([a, b], form)
    assert list(frame.columns) == ["run", "step", "epoch", "time", "role", "metric", "value"]
    mine = frame[(frame["run"] == a.root.name) & (frame["metric"] == "loss")]
    assert len(mine) == steps - 1, "more than one block; a step without a value has no line"
    assert np.isnan(mine["value"].iloc[7]) and mine["step"].iloc[8] == 10
    np.testing.assert_array_equal(mine["value"].iloc[8:], 2.0 * mine["step"].iloc[8:])
    assert (mine["time"] == 1.7e9).all() and mine["epoch"].iloc[-1] == pytest.approx(steps / 50)
    others = frame[frame["run"] == "b"]
    assert set(others["metric"]) == {"loss", "kl", "auroc"} and others["time"].isna().all(), "a log without times has none"
    evaluated = frame[(frame["run"] == a.root.name) & (frame["role"] == "validation")]
    assert (evaluated["time"] == 1.7e9).all() and evaluated["epoch"].tolist() == (evaluated["step"] / 50).tolist(), (
        "from its step"
    )


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, name, steps=120) for name in ("a", "b")]
    csv, parquet = exported(runs, "csv"), exported(runs, "parquet")
    pd.testing.assert_frame_equal(
        csv, parquet.astype({"run": csv["run"].dtype, "role": csv["role"].dtype, "metric": csv["metric"].dtype})
    )
    data = b"".join(stream(runs, REFS, "parquet"))  # type: ignore[arg-type]
    assert pq.read_schema(io.BytesIO(data)).metadata[b"schema_version"] == b"1"


def test_export_of_a_run_without_logs_is_an_empty_table(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=10)
    layout.metrics.unlink()
    layout.evaluations.unlink()
    assert exported([layout], "csv").empty and exported([layout], "parquet").empty


Ask = Callable[..., Response]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Asks a route of the comparison of a folder with runs `a` and `b`, beside which there is a run `outside`."""
    runs = tmp_path / "runs"
    runs.mkdir()
    make_run(tmp_path, "outside", steps=20)
    make_run(runs, "a")
    make_run(runs, "b", collapse=True)
    routes = {route.path: route for route in (export_route(runs), report_route(Service(runs)))}

    def get(path: str, **params: str | list[str]) -> Response:
        query = urlencode(params, doseq=True).encode()
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "server": ("here", 80),
            "path": path,
            "query_string": query,
            "headers": [],
        }
        return routes[path].endpoint(Request(scope))

    return get


def body(answer: Response) -> str:
    async def collect() -> str:
        return "".join([part.decode() async for part in answer.body_iterator])  # type: ignore[attr-defined]

    return asyncio.run(collect()) if isinstance(answer, StreamingResponse) else bytes(answer.body).decode()


def test_routes_read_only_what_lies_in_the_folder(ask: Ask) -> None:
    for path in ("/compare-export", "/compare-report"):
        for name in ("../outside", "..", "/etc", "no-such", "a/../../outside"):
            answer = ask(path, run=name)
            assert answer.status_code == 404 and "run=NAME" in body(answer)
    answer = ask("/compare-export", run=["a", "../outside"], metrics="losses")
    assert set(pd.read_csv(io.StringIO(body(answer)))["run"]) == {"a"}
    assert answer.headers["content-disposition"] == 'attachment; filename="compared-runs.csv"'
    refused = ask("/compare-export", run="a", format="xlsx")
    assert refused.status_code == 400 and "format=csv or format=parquet" in body(refused)


def test_the_report_route_takes_the_address_of_the_page(ask: Ask) -> None:
    text = body(ask("/compare-report", run=["a", "b", "gone"], metrics="probe.kl", x="onset"))
    assert "Comparison of 2 runs" in text and "Not drawn: gone." in text and "No place on this axis: a." in text
    assert "Posterior collapse" in text and "http://here/compare?run=a&amp;run=b&amp;run=gone" in text


def test_the_report_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    sweep(tmp_path)
    found = loaded(tmp_path)
    text = report(Choice(tuple(run.name for run in found.runs)), found, View(), "http://here/compare?run=a")
    assert "connect-src" not in text and "default-src 'none'" in text
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", own) and "<link" not in own and "@import" not in own
    figures = re.search(r"const FIGURES = (\[.*?\]);\n", text, re.DOTALL)
    assert figures is not None and len(orjson.loads(figures[1])) == len(SETS["overview"]) + 2
    for words in (
        "loss.",
        "beta_max",
        "Final and best figures",
        "fingerprint 000000000000",
        "NVIDIA H200, bf16-mixed",
        "(simulated)",
    ):
        assert words in text, words


def test_nothing_a_run_says_is_markup_in_the_report(tmp_path: Path) -> None:
    make_run(tmp_path, EVIL, steps=150)
    compared_run(tmp_path, "b", {"trainer.init_from": BREAKING, "data.label": BREAKING}, steps=150)
    found = loaded(tmp_path)
    text = report(Choice((EVIL, "b", BREAKING)), found, View(filter=BREAKING), BREAKING)
    assert (
        text.count("<script>") == 2
        and text.count("</script>") == 2
        and "<img" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    )


def test_best_values_know_which_way_is_better(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": loss, "kl": 1.0} for step, loss in ((1, 5.0), (2, 3.0), (3, float("nan")), (4, 4.0))]
    layout = compared_run(tmp_path, "a", rows=rows, steps=300)
    snapshot = loaded(tmp_path).runs[0].snapshot
    loss, kl, auroc = (result(snapshot, ref) for ref in REFS)  # type: ignore[arg-type]
    assert (loss.final, loss.best, loss.best_step) == (4.0, 3.0, 2)
    assert (kl.final, kl.best) == (1.0, None), "no KL is the best KL"
    logged = [
        row["auroc"] for row in map(orjson.loads, layout.evaluations.read_bytes().splitlines()) if row["kind"] == "validation"
    ]
    assert auroc.best == max(logged) and auroc.final == logged[-1]


def test_table_of_results_by_run_and_by_group(tmp_path: Path) -> None:
    sweep(tmp_path)
    runs = loaded(tmp_path).runs
    each, joined = (table(groups(runs, joined), REFS[:1]) for joined in (False, True))  # type: ignore[arg-type]
    name = "Total loss, training"
    assert (
        each[f"{name} · final"].tolist() == [100, 200, 300, 2000, 2100, 2200] and each[f"{name} · best at"].tolist() == [1] * 6
    )
    assert joined[f"{name} · final"].tolist() == [200, 2100] and joined[f"{name} · sd"].tolist() == [100, 100]
    assert f"{name} · best at" not in joined, "three seeds have no one step"


def drawn(tmp_path: Path) -> tuple[Drawn, ...]:
    sweep(tmp_path)
    compared_run(
        tmp_path, "c", {"loss.beta_max": 0.1, "loss.beta_schedule": "cyclical", "optim.learning_rate": 1e-1}, steps=100
    )
    return loaded(tmp_path).runs


def test_parallel_coordinates_and_scatter(tmp_path: Path) -> None:
    runs = drawn(tmp_path)
    axes, _ = parallel_axes(runs)
    assert [axis.key for axis in axes][:4] == ["loss.beta_schedule", "loss.beta_max", "optim.learning_rate", "trainer.seed"]
    schedule, beta, rate = axes[0], axes[1], axes[2]
    assert schedule.categories == ["cyclical", "linear"] and schedule.places().tolist() == [1] * 6 + [0]
    assert beta.places().tolist() == [0] * 3 + [1] * 3 + [0] and not beta.log and rate.log
    parallel, scatter = relations(runs, View(across="optim.learning_rate", up="auroc"), Look())
    assert (
        len(parallel.figure["data"]) == 7 == len(scatter.figure["data"]) and scatter.figure["layout"]["xaxis"]["type"] == "log"
    )
    for run, line, marker in zip(runs, parallel.figure["data"], scatter.figure["data"], strict=True):
        assert line["line"]["color"] == marker["marker"]["color"] == run.style.colour(False)
        assert line["customdata"][0] == marker["customdata"][0] == run.name
    _, categorical = relations(runs, View(across="loss.beta_schedule"), Look())
    assert categorical.figure["layout"]["xaxis"]["categoryarray"] == ["cyclical", "linear"]


def test_axes_of_what_is_missing_or_always_the_same() -> None:
    assert np.isnan(Axis("a", "a", (None, float("nan"))).places()).all() and Axis("a", "a", (None,)).ticks() == []
    assert Axis("a", "a", (2.0, 2.0, None)).places().tolist()[:2] == [0.5, 0.5]
    assert Axis("a", "a", ("x", None)).places()[0] == 0.5 and Axis("a", "a", (True, False)).categories == ["off", "on"]
    assert Axis("a", "a", (1e-5, 1e-3, 1e-1)).places().tolist() == [0, 0.5, 1]


def test_one_run_has_no_relations(tmp_path: Path) -> None:
    make_run(tmp_path, "a", steps=100)
    runs = loaded(tmp_path).runs
    assert option_axes(runs) == []
    parallel, scatter = relations(runs, View(), Look())
    assert "Two runs that differ" in parallel.figure["layout"]["annotations"][0]["text"]
    assert (
        scatter.figure["layout"]["xaxis"]["title"]["text"] == "Final Active units, probe set"
        and len(scatter.figure["data"]) == 1
    )
