"""The address and the filter of a comparison: what goes in comes out, and nothing that is typed breaks the page."""

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.compare.filter import Candidate, matching
from dashboard.compare.view import SETS, Ref, View, parse_ref, ref_text
from dashboard.overview.rows import flat
from shared.errors import InputError

RUNS = [
    Candidate("p12-healthy", "finished", ("sweep", "good one"), {"loss.beta_max": 0.1, "model.levels": 2, "trainer.stage": "train",
              "trainer.compile_model": False, "trainer.init_from": None}, {"auroc": 0.86, "units": 32, "step": 700}),
    Candidate("p12-collapsed", "running", ("sweep",), {"loss.beta_max": 8, "model.levels": 2, "trainer.stage": "train",
              "trainer.compile_model": True, "trainer.init_from": "a b.ckpt"}, {"auroc": 0.55, "units": 0, "step": 400}),
    Candidate("old", "failed", (), {"loss.free_bits": 0.1}, {"auroc": None, "units": None, "step": 0}),
]  # fmt: skip

texts = st.text(max_size=30)
views = st.builds(
    View, run=st.lists(texts, max_size=4, unique=True).map(tuple), filter=texts,
    tab=st.sampled_from(["curves", "config", "table", "relations", "export"]),
    metrics=st.sampled_from([*SETS, "probe.kl", "training.loss,validation.auroc", "training.train/my_metric"]),
    x=st.sampled_from(["step", "epoch", "time", "onset"]),
    smooth=st.integers(0, 1_000_000), group=st.sampled_from(["off", "minmax", "sd"]), scale=st.sampled_from(["auto", "linear", "log"]),
    across=texts, up=texts,
)  # fmt: skip


@given(views)
def test_an_address_opens_the_view_it_was_made_from(view: View) -> None:
    assert View.of(view.params()) == view
    assert View.of(parse_qs(view.query(), keep_blank_values=True)) == view


@given(
    st.dictionaries(
        st.sampled_from(["run", "x", "tab", "smooth", "metrics", "group", "scale", "other"]), st.lists(texts, max_size=3)
    )
)
def test_any_address_is_some_view(params: dict[str, list[str]]) -> None:
    view = View.of(params)
    assert view.refs and View.of(view.params()) == view


def test_an_address_says_only_what_was_chosen() -> None:
    assert View().params() == {} and View(run=("b", "a"), x="onset").query() == "run=b&run=a&x=onset"
    assert View(run=("a",), filter="tag:x").query(["b", "c"], format="csv") == "run=b&run=c&format=csv"
    assert View.of({"x": ["wall"], "smooth": ["-3"], "metrics": ["nonsense"], "tab": ["..."]}) == View()
    assert View.of({"run": ["a", "a", "b"]}).run == ("a", "b")


def test_metrics_by_name() -> None:
    assert all(parse_ref(ref_text(ref)) == ref for refs in SETS.values() for ref in refs)
    assert parse_ref("nowhere.loss") is None and parse_ref("training.") is None and parse_ref("kl") is None
    assert View(metrics="probe.kl,nonsense,probe.kl,validation.auroc").refs == (("probe", "kl"), ("validation", "auroc"))


@given(st.lists(st.tuples(st.sampled_from(["training", "probe", "validation"]), st.text(min_size=1)), min_size=1, unique=True))
def test_metrics_that_only_runs_know_stand_in_an_address_whatever_their_names_hold(refs: list[Ref]) -> None:
    view = View(metrics=",".join(map(ref_text, refs)))
    assert view.refs == tuple(refs) and View.of(view.params()).refs == view.refs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "hco"), ("p12", "hc"), ("P12 HEALTHY", "h"), ("*collapsed", "c"), ("p12", "hc"), ("sweep", "hc"), ("-sweep", "o"),
        ("state:running", "c"), ("-state:failed", "hc"), ("tag:sweep", "hc"), ("tag:swee", ""), ('tag:"good one"', "h"), ("name:old", "o"),
        ("loss.beta_max>0.5", "c"), ("beta_max<=0.1", "h"), ("beta_max=8", "c"), ("beta_max==8.0", "c"), ("beta_max!=8", "h"),
        ("trainer.stage=train", "hc"), ("compile_model=true", "c"), ("init_from=none", "h"), ('init_from="a b.ckpt"', "c"),
        ("auroc>0.8", "h"), ("auroc<0.6 active_units=0", "c"), ("step>=400", "hc"), ("tag:sweep auroc>0.8", "h"),
    ],
)  # fmt: skip
def test_words_of_the_filter(text: str, found: str) -> None:
    names = {"h": "p12-healthy", "c": "p12-collapsed", "o": "old"}
    assert [run.name for run in matching(text, RUNS)] == [names[letter] for letter in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state:runing", "no such state; it is one of created, running"),
        ("loss.beta_maxx>1", "no field or option 'loss.beta_maxx'; did you mean loss.beta_max"),
        ("beta_max>much", "'much' is no number"), ('tag:"open', "a quote is left open"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_understood_says_why(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        matching(text, RUNS)


def test_a_short_name_must_be_unambiguous() -> None:
    both = [Candidate("a", "finished", (), {"x.rate": 1, "y.rate": 2})]
    with pytest.raises(InputError, match=r"could be x\.rate or y\.rate"):
        matching("rate>0", both)
    assert matching("x.rate>0", both) == both


@given(st.text(max_size=40))
def test_whatever_is_typed_finds_runs_or_is_refused_in_words(text: str) -> None:
    try:
        assert {run.name for run in matching(text, RUNS)} <= {run.name for run in RUNS}
    except InputError as error:
        assert str(error).startswith("Filter ")


def test_options_of_any_depth() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": [1, 2]}) == {"a.b.c": 1, "d": [1, 2]}
