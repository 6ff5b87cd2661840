"""What the Latent space page computes and draws, as data: places, colours, figures, words."""

from collections import Counter
from dataclasses import replace

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.charts import Look
from dashboard.latent import words
from dashboard.latent.colour import Colouring, colouring, error_by_set, why_no_variables
from dashboard.latent.colour import choices as colours
from dashboard.latent.data import analysed, posterior_of, sets_of, snapshots
from dashboard.latent.dims import MOST_CORRELATED, active, activity_figure, correlated, correlation_figure, kl_figure
from dashboard.latent.figures import ON_PRIOR, map_figure, over_time_figure, trails
from dashboard.latent.plane import pca, umap_known, umap_plane
from dashboard.latent.view import MOST_DRAWN, caught_frame, sample
from dashboard.work import Progress
from shared.embedding import Frame, write_embedding
from shared.errors import InputError
from shared.latents import LatentSets, fingerprint, read_latents
from shared.layout import RunLayout
from tests.latent_runs import latent_run, write_snapshot


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return latent_run(tmp_path_factory.mktemp("runs"), "run", width=8)


@pytest.fixture
def newest(layout):
    return snapshots(layout)[-1]


def sets_with(mu: np.ndarray) -> LatentSets:
    n = len(mu)
    return LatentSets(
        np.array([f"s{i}" for i in range(n)], object), np.arange(n), np.zeros(n), np.zeros(n), np.ones(n, bool), mu, None
    )


def test_snapshots_and_checkpoints_are_found(layout):
    assert [one.key for one in snapshots(layout)] == ["step-100", "step-200", "step-300"]
    layout.analysis.mkdir(exist_ok=True)
    layout.analysed("latents", "best_1").write_bytes(layout.latents(300).read_bytes())
    assert [(one.key, one.posterior) for one in analysed(layout)] == [
        ("checkpoint-best_1", layout.analysed("posterior", "best_1"))
    ]


def test_pca_uses_the_same_axes_for_all_snapshots(layout):
    training = snapshots(layout)
    planes = [pca(source, training, "latents") for source in training]
    mu = [sets_of(source.latents).mu.astype(float) for source in training]
    covariance = np.mean([np.cov(m.T) for m in mu], axis=0)
    _, vectors = np.linalg.eigh(covariance)
    for plane, m in zip(planes, mu, strict=True):
        assert np.array(plane.span) == pytest.approx(np.array(planes[0].span)), "the same limits"
        expected = m @ vectors[:, ::-1][:, :2]
        for axis in range(2):
            assert abs(np.corrcoef(plane.xy[:, axis], expected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-3)
        assert plane.xy.std(axis=0) == pytest.approx(expected.std(axis=0), rel=1e-3), "lengths are as they are in latent space"
        share = expected[:, 0].var() / m.var(axis=0).sum()
        assert f"({share:.0%} of the variance)" in plane.axes[0]
    assert planes[-1].xy.std() > 1.3 * planes[0].xy.std(), "the groups part"


def test_pca_of_states_leaves_out_what_has_none(layout, newest):
    plane, sets = pca(newest, snapshots(layout), "states"), sets_of(newest.latents)
    assert plane.index.tolist() == np.flatnonzero(np.isfinite(sets.state[:, 0])).tolist() and len(plane.index) < len(sets.row)


def test_pca_of_a_collapsed_posterior_says_that_it_shows_nothing(tmp_path):
    layout = RunLayout(tmp_path)
    write_snapshot(layout, 1, np.repeat(np.arange(10), 4), np.zeros((40, 3)), np.random.default_rng(0), 0)
    source = snapshots(layout)[0]
    plane = pca(source, [source], "latents")
    assert "0% of the variance" in plane.axes[0] and (plane.xy == 0).all()
    assert pca(source, [source], "states") is None


def test_umap_is_used_only_for_its_input(layout, newest):
    assert umap_known(layout, newest, "latents").frame is None
    sets = read_latents(newest.latents)
    order = np.random.default_rng(0).permutation(len(sets.row))
    frame = Frame(fingerprint(newest.latents), sets.row[order], np.random.default_rng(1).normal(size=(len(order), 2)), 0.5)
    write_embedding(layout.umap("latents"), {300: frame, 200: Frame("other", frame.rows, frame.xy, 0.5)}, "umap-learn 0")
    known = umap_known(layout, newest, "latents")
    plane = umap_plane(layout, newest, "latents", known.frame, sets)
    assert (sets.row[plane.index] == frame.rows).all() and "50% of the nearest" in plane.note
    earlier = umap_known(layout, snapshots(layout)[1], "latents")
    assert earlier.frame is None and earlier.stale
    layout.umap("latents").write_bytes(b"broken")
    assert "delete it" in umap_known(layout, newest, "latents").problem
    layout.umap("latents").unlink()


def test_colours_know_units_categories_and_what_is_missing(layout, newest):
    sets = sets_of(newest.latents)
    options = colours(layout, newest, "in_hospital_mortality")
    assert options["var:HR"] == "HR (bpm)" and list(options)[:2] == ["outcome", "time"]
    outcome = colouring("outcome", sets, layout, newest, "died", 0)
    assert outcome.names == {0.0: "no", 1.0: "yes"} and np.isnan(outcome.values[sets.stay == "s1"]).all()
    rate = colouring("var:HR", sets, layout, newest, "died", 0)
    assert rate.unit == "bpm" and rate.names is None and np.isnan(rate.values[sets.stay == "s0"]).all()
    assert rate.values[sets.stay == "s30"] == pytest.approx(90, abs=5)
    gender = colouring("var:Gender", sets, layout, newest, "died", 0)
    assert gender.names == {0.0: "female", 1.0: "male"}
    error = error_by_set(sets, newest)
    assert error[sets.stay == "s1"] == pytest.approx(2) and np.isnan(error[sets.stay == "s2"]).all()
    assert colouring("dimension", sets, layout, newest, "died", 2).values.tolist() == sets.mu[:, 2].tolist()
    assert colouring("var:gone", sets, layout, newest, "died", 0).missing == "not measured by then"


def test_older_runs_say_that_values_were_not_kept(tmp_path, layout):
    assert why_no_variables(layout) is None
    bare = RunLayout(tmp_path)
    assert "not kept" in why_no_variables(bare)
    bare.observed.parent.mkdir()
    bare.observed.write_bytes(b"no parquet")
    assert "cannot be read" in why_no_variables(bare)


def test_names_of_patients_and_variables_are_never_markup(layout, newest):
    sets, plane = sets_of(newest.latents), pca(newest, snapshots(layout), "latents")
    evil = replace(sets, stay=np.where(sets.stay == sets.stay[0], "<b>p", sets.stay))
    values = Colouring("<b>HR", "<i>", np.arange(float(len(evil.stay))), missing="<u>none")
    followed = trails(["<b>p"], evil, plane, 0)
    drawn = map_figure(Look(), plane, np.arange(len(plane.index)), evil, values, followed, "i")
    said = orjson.loads(drawn.to_json())["data"]
    words = [text for trace in said for text in (trace["name"], trace["hovertemplate"], *trace["text"])]
    assert len(followed) == 1 and any("&lt;b&gt;p" in text for text in words) and any("&lt;b&gt;HR" in text for text in words)
    assert not any(tag in text for text in words for tag in ("<b>", "<i>", "<u>", "customdata}<br>%{text"))
    assert over_time_figure(Look(), followed, 0, "i").data[0].name == "patient &lt;b&gt;p"


@pytest.mark.parametrize("key", ["outcome", "time", "error", "var:HR", "var:Gender"])
def test_the_map_draws_every_point_once(layout, newest, key):
    sets, plane = sets_of(newest.latents), pca(newest, snapshots(layout), "latents")
    values = colouring(key, sets, layout, newest, "died", 0)
    figure = map_figure(Look(), plane, np.arange(len(plane.index)), sets, values, [], "i")
    assert sum(len(trace.x) for trace in figure.data) == len(sets.row)
    assert Counter(stay for trace in figure.data for stay in trace.customdata) == Counter(sets.stay.tolist())
    missing = int(np.isnan(values.values).sum())
    assert any(f"({missing:,})" in trace.name and values.missing in trace.name for trace in figure.data) == bool(missing)
    if values.names is None:
        (shown,) = (trace for trace in figure.data if trace.marker.showscale)
        known = values.values[np.isfinite(values.values)]
        assert shown.marker.cmin == pytest.approx(np.percentile(known, 2)) and shown.marker.colorbar.title.text == values.title
    else:
        kinds = [trace for trace in figure.data if values.missing not in trace.name]
        assert (
            len({trace.marker.color for trace in kinds}) == len({trace.marker.symbol for trace in kinds}) == len(values.names)
        )


def test_patients_are_followed_in_the_order_of_time(layout, newest):
    sets, plane = sets_of(newest.latents), pca(newest, snapshots(layout), "latents")
    (trail,) = trails(["s7", "nobody"], sets, plane, 1)
    assert trail.hours.tolist() == [0, 1.5, 3, 4.5, 6]
    assert (
        trail.xy.tolist() == plane.xy[sets.stay == "s7"].tolist()
        and trail.values.tolist() == sets.mu[sets.stay == "s7", 1].tolist()
    )
    figure = map_figure(
        Look(dark=True), plane, np.arange(9), sets, colouring("time", sets, layout, newest, "died", 0), [trail], "i"
    )
    line = figure.data[-1]
    assert line.marker.symbol[0] == "circle-open" and line.marker.symbol[-1] == "square" and line.text[-1] == "s7"
    assert over_time_figure(Look(), [trail], 1, "i").data[0].y.tolist() == trail.values.tolist()


def test_a_sample_is_always_the_same_and_holds_who_is_followed():
    kept = np.zeros(9000, bool)
    kept[[5, 8999]] = True
    first = sample(9000, kept)
    assert first.tolist() == sample(9000, kept).tolist() and {5, 8999} <= set(first.tolist())
    assert MOST_DRAWN <= len(first) <= MOST_DRAWN + 2 and sample(30, kept[:30]).tolist() == list(range(30))


def test_the_area_lists_who_is_in_it(layout, newest):
    sets = sets_of(newest.latents)
    frame = caught_frame(sets, error_by_set(sets, newest), Counter(["s1", "s4", "s4"]))
    assert frame["Patient"].tolist() == ["s4", "s1"] and frame["Sets in the area"].tolist() == [2, 1]
    assert frame["Outcome"].tolist() == ["1", "not known"] and frame["Mean error (SD)"].tolist() == ["not decoded", "2"]


def test_dimensions_are_drawn_by_kind_with_the_threshold(newest):
    posterior = posterior_of(newest.posterior)
    for make, column in ((activity_figure, "var_mu"), (kl_figure, "kl")):
        figure = make(Look(), posterior, "i")
        drawn = {number: value for bar in figure.data for number, value in zip(bar.x, bar.y, strict=True)}
        assert [drawn[rank] for rank in sorted(drawn)] == posterior.sort_values("var_mu", ascending=False)[column].tolist()
        assert {bar.name.partition(" ")[0] for bar in figure.data} == {"active", "mixed", "passive"}
        assert len({bar.marker.pattern.shape for bar in figure.data}) == 3 and figure.layout.yaxis.type == "log"
    assert activity_figure(Look(), posterior, "i").layout.shapes[0].y0 == 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 130), st.sampled_from(["similarity", "activity", "number"]), st.integers(0, 3))
def test_correlations_are_those_of_numpy(dims, order, dead):
    mu = np.random.default_rng(dims).normal(size=(50, dims)).astype(np.float32) * np.linspace(1, 2, dims, dtype=np.float32)
    mu[:, :dead] = 1
    chosen, found = correlated(sets_with(mu), order)
    assert len(chosen) == min(max(dims - dead, 0), MOST_CORRELATED) == len(set(chosen.tolist())) and not set(range(dead)) & set(
        chosen
    )
    if len(chosen) > 1:
        assert found == pytest.approx(np.corrcoef(mu[:, chosen].astype(float).T), abs=1e-9)


def test_similar_dimensions_stand_together():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(400, 2))
    mu = base[:, np.arange(12) % 2] + 0.2 * rng.normal(size=(400, 12))
    dims, found = correlated(sets_with(mu), "similarity")
    parity = dims % 2
    assert np.count_nonzero(np.diff(parity)) == 1, "two blocks"
    figure = correlation_figure(Look(), dims, found, np.ones(len(dims), bool), "i")
    assert (figure.data[0].zmin, figure.data[0].zmax, figure.data[0].zmid) == (-1, 1, 0)


def test_what_a_collapsed_latent_shows_is_said_and_grey(layout):
    mu = np.random.default_rng(0).standard_normal((200, 4)) * [1, 1, 0.02, 0.001]
    alive = active(sets_with(mu))
    assert alive.tolist() == [True, True, False, False]
    dims, found = correlated(sets_with(mu), "number")
    grey, coloured = correlation_figure(Look(), dims, found, alive[dims], "i").data
    assert np.isnan(grey.z[:2, :2]).all() and np.isfinite(coloured.z).sum() == 4, "only the pair of active ones has colours"
    assert grey.showscale is False and coloured.showscale
    source = snapshots(layout)[-1]
    plane, sets = pca(source, snapshots(layout), "latents"), sets_of(source.latents)
    values = colouring("outcome", sets, layout, source, "died", 0)
    notes = [
        map_figure(Look(), plane, np.arange(len(plane.index)), sets, values, [], "i", idle).layout.annotations
        for idle in (True, False)
    ]
    assert [[one.text for one in found] for found in notes] == [[ON_PRIOR], []]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda frame: frame.drop(columns="minute"), "has no column minute"),
        (lambda frame: frame.assign(mu=[np.zeros(2)] * (len(frame) - 1) + [np.zeros(3)]), "of one length"),
        (lambda frame: frame.assign(mu="text"), "not what it has to be"),
    ],
)
def test_bad_snapshots_are_named(tmp_path, newest, damage, said):
    from backend.snapshots import write_frame

    path = tmp_path / "bad.parquet"
    write_frame(damage(pd.read_parquet(newest.latents)), path)
    with pytest.raises(InputError, match=said):
        read_latents(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"bad\.parquet"):
        read_latents(path)


def test_output_of_a_failed_layout_is_text():
    assert "<script>" not in words.failed("<script>alert(1)</script>")
    bar = words.progress(Progress("running", "laying out, step 5 (1 of 2)", 0.25, 3.0))
    assert "width:25.0%" in bar and "UMAP 25%" in bar
    assert "waiting for another" in words.progress(Progress("waiting"))
