"""Charts as data, words as text: what a page draws, tested without a browser."""

import gzip
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from dashboard import charts
from dashboard.charts import COLOURS, Curve, Guide, Look, Mark
from dashboard.components import WHOLE_PLOTLY
from dashboard.document import SMALL_PLOTLY, compressed
from dashboard.formats import duration, number, rate
from dashboard.landing import gone
from dashboard.live import panels
from dashboard.live.header import head_token, header, numbers
from dashboard.runs.loading import Snapshot, Store
from dashboard.widgets import el, evidence, plain, state_banner
from shared.collapse import Verdict
from shared.config import MonitorConfig
from shared.decimate import decimate
from shared.panels import DECODER, LOSSES, OUTCOME, PACE, POSTERIOR
from shared.schema import Event, RunState
from shared.verdicts import verdict_data
from shared.writer import JsonlWriter
from tests.plotted import plotted
from tests.run_factory import GONE_PID, make_run, make_zoo

ALL = POSTERIOR + LOSSES + OUTCOME + DECODER + PACE


def snapshot_of(runs: Path, name: str, revision: int = 1) -> Snapshot:
    found = Store(runs, lambda _name: revision).snapshot(name)
    assert found is not None
    return found


def plot(*args: Any, **options: Any) -> go.Figure:
    return plotted(charts.draw(*args, **options))


def chart(*args: Any) -> go.Figure:
    return plotted(panels.figure(*args))


def curve(y: list[float], role: str = "training") -> Curve:
    return Curve(role, np.arange(len(y), dtype=float), np.array(y, float), role)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "low", "high"), [(0.001, 0.0009, 0.0011), (-40.0, -44.0, -36.0), (0.0, -1.0, 1.0)])
def test_a_constant_has_an_axis_around_it(value: float, low: float, high: float) -> None:
    options = plot([curve([value] * 5)]).layout.yaxis.autorangeoptions
    assert options.include == pytest.approx((low, high))
    assert not plot([curve([1.0, 2.0])]).layout.yaxis.autorangeoptions.include


def test_decimation_keeps_spikes_ends_and_gaps() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(100_000)
    y[40_123], y[70_001] = 1000, np.nan
    x = np.arange(len(y), dtype=float)
    thin_x, thin_y = decimate(x, y)
    assert len(thin_x) <= 2003
    assert (np.diff(thin_x) > 0).all()
    assert thin_x[0] == 0 and thin_x[-1] == 99_999
    assert np.nanmax(thin_y) == 1000 and np.nanmin(thin_y) == np.nanmin(y)
    assert thin_x[np.isnan(thin_y)].tolist() == [70_001]


def test_decimation_survives_all_missing_and_leaves_short_curves() -> None:
    x = np.arange(5000.0)
    _, y = decimate(x, np.full(5000, np.nan))
    assert np.isnan(y).all()
    assert decimate(x[:10], x[:10])[0] is not None and len(decimate(x[:10], x[:10])[0]) == 10


def test_outlier_does_not_flatten_the_rest() -> None:
    linear = plot([curve([5000.0] + [1 + 0.1 * (i % 5) for i in range(500)])], look=Look(scale="linear"))
    assert linear.layout.yaxis.autorange is True, "an explicit range would undo a zoom at every update"
    assert linear.layout.yaxis.autorangeoptions.clipmax < 10
    assert any("5,000" in note.text for note in linear.layout.annotations), "what is cut off must be said"
    assert plot([curve([5000.0] + [1.0] * 500)]).layout.yaxis.type == "log"
    assert plot([curve([-5000.0] + [-1.0] * 500)]).layout.yaxis.type == "linear"
    assert plot([curve([1.0, 2.0, 3.0])]).layout.yaxis.type == "linear"


def test_zoom_belongs_to_one_chart_and_scale() -> None:
    short = plot([curve([1.0, 2.0])], identity="run:kl")
    longer = plot([curve([1.0, 2.0, 3.0])], identity="run:kl")
    logged = plot([curve([1.0, 2.0])], identity="run:kl", look=Look(scale="log"))
    assert short.layout.uirevision == longer.layout.uirevision != logged.layout.uirevision


def test_log_axis_leaves_out_what_it_cannot_show() -> None:
    found = plot([curve([0.0, 1.0, 10.0])], look=Look(scale="log"))
    assert found.layout.yaxis.type == "log" and np.isnan(found.data[0].y[0])


def test_guides_and_marks_are_drawn_and_labelled() -> None:
    far = Guide("explosion", 1e6, tone="limit", always=False)
    found = plot([curve([1.0, 2.0])], guides=[Guide("band", 0.5, 3.0, "good"), far], marks=[Mark("collapse", 1)])
    words = [note.text for note in found.layout.annotations]
    assert "band" in words and "collapse" in words and "explosion" not in words
    assert len(found.layout.shapes) == 2


def test_no_data_says_so() -> None:
    found = plot([curve([np.nan])], empty="No probe evaluation yet")
    assert found.layout.annotations[0].text == "No probe evaluation yet" and not found.data


@pytest.mark.parametrize("dark", [False, True])
def test_every_panel_of_a_real_run(tmp_path: Path, dark: bool) -> None:
    make_run(tmp_path, "a", steps=3000)
    snapshot = snapshot_of(tmp_path, "a")
    roles = {"training": "training", "probe set": "probe", "validation": "validation"}
    for panel in ALL:
        found = chart(snapshot, panel, Look(dark=dark))
        assert found.data, panel.metric
        assert {trace.type for trace in found.data} == {"scatter"}, "no WebGL"
        assert found.layout.paper_bgcolor == "rgba(0,0,0,0)"
        assert found.layout.xaxis.title.text == "optimizer step" and found.layout.xaxis.tickformat == ",.9~g"
        assert found.layout.yaxis.title.text == panel.info.unit
        assert panel.help.startswith(panel.info.help)
        for trace in found.data:
            assert len(trace.x) <= 2010
            if trace.name in roles:
                assert trace.line.color == COLOURS[dark][roles[trace.name]], "one colour, one meaning"


def test_thresholds_of_the_four_panels(tmp_path: Path) -> None:
    make_run(tmp_path, "a", collapse=True)
    snapshot = snapshot_of(tmp_path, "a")
    words = {
        panel.metric: " ".join(note.text for note in chart(snapshot, panel, Look()).layout.annotations) for panel in POSTERIOR
    }
    assert "carries nothing below 0.1" in words["kl"] and "usual" not in words["kl"]
    assert "free bits allow 6.4" in words["kl"], "0.1 nats for each of 64 dimensions"
    assert "as its prior" in words["posterior_variance"]
    assert "none active: collapse" in words["active_units"]
    assert all("Posterior collapse" in text for text in words.values()), "the onset is marked on each"


def test_panels_of_an_empty_run(tmp_path: Path) -> None:
    make_run(tmp_path, "a", state=RunState.CREATED)
    snapshot = snapshot_of(tmp_path, "a")
    assert all(chart(snapshot, panel, Look()).layout.annotations[0].text.startswith("No ") for panel in ALL)


def test_text_of_a_run_is_never_markup(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    make_run(tmp_path, evil, state=RunState.FAILED, error="<script>alert(2)</script>")
    snapshot = snapshot_of(tmp_path, evil)
    banner = state_banner(snapshot.status)
    pages = [header(snapshot), gone(evil, tmp_path), banner or ""]
    for page in pages:
        assert "<img" not in page and "<script" not in page
    assert el("a", "x", title='"><b>') == '<a title="&quot;&gt;&lt;b&gt;">x</a>'


def test_words_in_charts_are_never_markup() -> None:
    evil, there = "<a href='https://example.org'>a & b</a>", "&lt;a href='https://example.org'&gt;a &amp; b&lt;/a&gt;"
    curve = Curve(evil, np.arange(3.0), np.arange(3.0), "training")
    drawn = plot([curve], unit=evil, guides=[Guide(evil, 1.0)], marks=[Mark(evil, 1)])
    texts = [note.text for note in drawn.layout.annotations]
    assert texts == [there, there] and drawn.data[0].name == there and drawn.layout.yaxis.title.text == there
    assert plot([], empty=evil).layout.annotations[0].text == there


def test_words_in_markdown_are_never_markup() -> None:
    assert plain("1. *a* `b` [c](d) $e$") == r"1\. \*a\* \`b\` \[c\]\(d\) \$e\$"
    assert plain("two words, 3:1") == r"two words\, 3:1"
    for shortcode in (":material/delete:", ":red[x]", ":smile:", "https://example.org"):
        assert re.search(r":[A-Za-z/]", plain(shortcode)) is None


def test_state_banners_give_the_next_action(tmp_path: Path) -> None:
    make_zoo(tmp_path)
    make_run(tmp_path, "it's dead", state=RunState.RUNNING, pid=GONE_PID)
    for name in ("dead-process", "stale-heartbeat", "failed-out-of-memory", "interrupted-by-user"):
        assert f"--resume_from_checkpoint {tmp_path / name}" in str(state_banner(snapshot_of(tmp_path, name).status))
    assert "run.json" in str(state_banner(snapshot_of(tmp_path, "broken-json").status))
    assert state_banner(snapshot_of(tmp_path, "healthy-running").status) is None


def test_header_figures_and_token(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=1200, state=RunState.RUNNING)
    before = snapshot_of(tmp_path, "a")
    JsonlWriter(layout.metrics).write(1201, {"loss": 12345.678, "kl": 2.0})
    after = snapshot_of(tmp_path, "a", 2)
    assert (numbers(before)["step"], numbers(after)["step"]) == ("1,200", "1,201")
    assert numbers(after)["loss"] == "12,346" and numbers(after)["progress"] == "60.05%"
    assert head_token(before) == head_token(after), "a new step alone must not redraw the header"
    broken = Verdict("nonfinite", "alarm", "NaN or infinity in training", "Not finite: kl.", 1201, 1201)
    JsonlWriter(layout.events).write_record(Event(step=1201, kind="verdict", message="NaN", data=verdict_data(broken)))
    assert head_token(snapshot_of(tmp_path, "a", 3)) != head_token(before)


def test_the_header_says_how_old_the_posterior_figures_are(tmp_path: Path) -> None:
    layout = make_run(tmp_path, "a", steps=1200, state=RunState.RUNNING)
    probed = snapshot_of(tmp_path, "a").probes[-1]["step"]
    assert re.search("every 100 steps.*standard: 200", str(MonitorConfig.model_fields["fast_detection"].description))
    for steps, old in ((1, False), (118, False), (1000, True)):
        JsonlWriter(layout.metrics).write(probed + steps + 100, {"loss": 1.0})
        snapshot = snapshot_of(tmp_path, "a", steps + 1)
        assert f"measured at step {probed:,}, {steps + 100:,} steps ago" in numbers(snapshot)["measured"]
        shown = header(snapshot)
        assert shown.count("steps ago") >= 2 and ("sv-old" in shown) == old
    make_run(tmp_path, "new", state=RunState.CREATED)
    assert "steps ago" not in header(snapshot_of(tmp_path, "new"))


def test_evidence_says_of_which_step_it_is() -> None:
    verdict = Verdict("collapse", "alarm", "Posterior collapse", "", 25, 75, evidence={"kl": 0.168}, measured=75)
    assert str(evidence(verdict)).startswith("Evidence at step 75: KL")
    assert str(evidence(replace(verdict, measured=None))).startswith("Evidence: "), "an older log does not say"


def test_a_name_too_long_for_the_choice_stands_in_the_header(tmp_path: Path) -> None:
    long = "physionet2012-train-beta_0.1-free_bits_0.1-levels_2-seed_12345"
    for name in (long, "short"):
        make_run(tmp_path, name, steps=20)
    assert long in header(snapshot_of(tmp_path, long)) and "short" not in header(snapshot_of(tmp_path, "short"))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(None), "–"), (number(float("nan")), "NaN"), (number(float("-inf")), "−∞"), (number(0), "0"), (number(12345.6), "12,346"),
        (number(-3.14159), "−3.142"), (number(3e-4), "0.0003"), (number(1.234e-6), "1.23e−06"), (duration(59), "59 s"),
        (duration(7500), "2 h 05 min"), (duration(90000), "1 d 01 h"), (duration(None), "–"),
        (rate(3.2), "3.2 steps/s"), (rate(0.25), "4 s/step"),
    ],
)  # fmt: skip
def test_numbers_for_people(shown: str, expected: str) -> None:
    assert shown == expected


def test_both_builds_of_plotly_are_of_the_packages_version() -> None:
    version = re.compile(rb"\* plotly\.js .*?v([\d.]+)")
    small, whole = (version.search(script.read_bytes()[:200]) for script in (SMALL_PLOTLY, WHOLE_PLOTLY))
    assert small and whole and small[1] == whole[1], (
        "take plotly-basic.min.js of npm's plotly.js-basic-dist-min in that version"
    )
    assert gzip.decompress(compressed(SMALL_PLOTLY)) == SMALL_PLOTLY.read_bytes()
    assert len(compressed(SMALL_PLOTLY)) < 500_000 and len(compressed(WHOLE_PLOTLY)) < 2_000_000


def test_nothing_of_torch_is_imported() -> None:
    code = (
        "import sys, runpy\n"
        "import dashboard.__main__, dashboard.service, dashboard.live.header, dashboard.landing, dashboard.live.panels, dashboard.components\n"
        "bad = {'torch', 'lightning', 'torchmetrics', 'backend'} & {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_figures_of_live_pass_on_nothing_that_lives_elsewhere() -> None:
    assert {"series", "latest", "CATALOGUE", "POSTERIOR"}.isdisjoint(vars(panels))
