"""The texts of a comparison as HTML, for the page and for the report: legend, notes, tables. Every text is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from dashboard.compare.choice import Choice, Loaded
from dashboard.compare.curves import Drawn, Group, Line, has_clock_times, left_out
from dashboard.compare.figures import FEW
from dashboard.compare.outcomes import verdict_of
from dashboard.compare.view import MOST_RUNS, NEWEST, View
from dashboard.formats import DASH, count
from dashboard.runs.colours import RunStyle
from dashboard.widgets import BADGES, SIGNS, Html, banner, el, evidence, join

BANDS = {"minmax": "from the smallest to the largest", "sd": "one standard deviation to either side"}
NAMED = 6
"""So many names are spelled out; of more, the number."""


def swatch(style: RunStyle, dark: bool) -> Html:
    """A short line as the run is drawn."""
    return el("span", cls=f"sv-run-line sv-line-{style.dash}", style=f"--line:{style.colour(dark)}", aria_hidden="true")


def legend(groups: Sequence[Group], dark: bool, links: bool = True) -> Html:
    """Which line is which run; pointing at one lets the others step back in all charts (compare.js)."""
    entries = (_entry(group, dark, links) for group in groups)
    return el("div", *entries, cls="sv-run-legend", role="group", aria_label="Runs in the charts")


def _entry(group: Group, dark: bool, links: bool) -> Html:
    """A run, which links to its page, or a group of seeds, which names its members."""
    line, name, marks = (
        swatch(group.style, dark),
        el("span", group.label, cls="sv-label"),
        {"data_legend": group.label, "cls": "sv-run-entry"},
    )
    if len(group.members) > 1:
        return el("span", line, name, tabindex="0", title=", ".join(run.name for run in group.members), **marks)
    run = group.members[0]
    sign = _sign(run)
    about = {"title": f"{run.name}: {verdict_of(run)}"}
    if not links:
        return el("span", line, name, sign, tabindex="0", **about, **marks)
    return el("a", line, name, sign, href=f"live?run={quote(run.name)}", data_run=run.name, **about, **marks)


def _sign(run: Drawn) -> Html:
    """Of a run whose posterior is warned of the verdict's, for a green tick would belie it; of others that of its state."""
    worst, health = run.snapshot.verdicts[:1], run.snapshot.status.health
    if worst and worst[0].severity in ("alarm", "warning"):
        return el("span", SIGNS[worst[0].severity], cls=f"sv-sign sv-{worst[0].severity}", title=worst[0].title)
    return el("span", BADGES[health][0], cls=f"sv-sign sv-{health.value}", title=BADGES[health][1])


def names_text(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def notes(choice: Choice, loaded: Loaded, view: View) -> Html:
    """What has to be said about the choice: what is left out and why, what the axis means."""
    said = []
    if choice.problem:
        said.append(banner("warning", "This filter cannot be understood.", choice.problem))
    if choice.beyond:
        said.append(banner("info", f"{MOST_RUNS} runs are drawn.", f"{choice.beyond:,} more were chosen: so many lines cannot be told apart.",
                           "Narrow the filter; the export takes the runs drawn."))  # fmt: skip
    for reason, names in _by_reason(loaded.missing).items():
        said.append(
            banner(
                "warning", "Not drawn: " + names_text(names) + ".", reason, "Take it out of the choice, or restore its folder."
            )
        )
    partly = [run.name for run in loaded.runs if run.snapshot.reading is not None]
    if partly:
        told = "These logs are large: their curves are a sample of lines until all of them are read, which goes on by itself."
        said.append(banner("info", f"Still reading: {names_text(partly)}.", told))
    for reason, names in _by_reason(left_out(loaded.runs, view.x)).items():
        who = "It has" if len(names) == 1 else "They have"
        told = f"{who} {reason}."
        said.append(banner("info", f"No place on this axis: {names_text(names)}.", told, "Align by step to see all runs."))
    if view.x == "time":
        guessed = [run.name for run in loaded.runs if not has_clock_times(run.snapshot)]
        if guessed:
            said.append(banner("info", "Training time, not clock time: " + names_text(guessed) + ".",
                               "The log has no time of each step, so step times are added up and pauses are left out."))  # fmt: skip
    return el("div", *said, cls="sv-banners") if said else join([])


def _by_reason(named: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in named.items():
        found.setdefault(reason, []).append(name)
    return found


def choice_text(choice: Choice, drawn: int) -> str:
    """How many runs are shown and why these."""
    if choice.newest:
        return f"Nothing chosen yet: the newest {min(drawn, NEWEST)} with a log are shown."
    chosen = f"{drawn:,} {'run' if drawn == 1 else 'runs'} chosen"
    return f"{chosen}, {choice.by_filter:,} of them by the filter." if choice.by_filter else f"{chosen}."


def lacking(groups: Sequence[Group], lines: Sequence[Line]) -> str:
    """Runs and seeds that have no value of a metric, in words; empty where all have it."""
    drawn = {line.group.label for line in lines}
    without = [group.label for group in groups if group.label not in drawn]
    said = [f"not in: {names_text(without)}"] if without and drawn else []
    said += [
        f"{line.present} of {line.group.label}"
        for line in lines
        if line.low is not None and line.present < len(line.group.members)
    ]
    return "; ".join(said)


def method(view: View, groups: Sequence[Group]) -> str:
    """How the curves were treated, in a sentence."""
    parts = []
    if view.smooth:
        parts.append(f"Curves are moving averages over about {view.smooth:,} steps.")
        if len(groups) <= FEW and view.group == "off":
            parts.append("The faint lines are the values themselves.")
    joined = [group for group in groups if len(group.members) > 1]
    if view.group != "off" and joined:
        parts.append(
            f"Runs that differ in nothing but the seed are one line: their mean where all have data, with a band {BANDS[view.group]}."
        )
    elif view.group != "off":
        parts.append("No two of these runs differ in the seed alone, so each is its own line.")
    return " ".join(parts)


def verdict_table(runs: Sequence[Drawn]) -> Html:
    """Every verdict that holds or held, run by run."""
    rows = []
    for run in runs:
        for verdict, past in [(each, False) for each in run.snapshot.verdicts] + [(each, True) for each in run.snapshot.past]:
            sign = el(
                "span",
                el("span", SIGNS[verdict.severity], cls="sv-icon"),
                verdict.title,
                cls=f"sv-verdict sv-{verdict.severity}",
            )
            since = f"{count(verdict.began)}" + (f" to {count(verdict.ended)}" if past else "")
            told = el("td", verdict.detail, el("div", evidence(verdict), cls="sv-dim") if evidence(verdict) else None)
            rows.append(
                el(
                    "tr",
                    el("th", run.name, scope="row"),
                    el("td", sign),
                    el("td", since if verdict.began is not None else DASH),
                    told,
                )
            )
    heads = (el("th", head, scope="col") for head in ("Run", "Verdict", "Steps", "What was seen"))
    return el("table", el("thead", el("tr", *heads)), el("tbody", *rows))


def rows_of(pairs: Iterable[tuple[str, str | None]]) -> Html:
    """A list of facts; those that are not known are left out."""
    return join(el("div", el("dt", name), el("dd", value)) for name, value in pairs if value)


def empty(headline: str, words: str) -> Html:
    """A state with nothing to show, and the next action."""
    return el("section", el("h2", headline), el("p", words, cls="sv-dim"), cls="sv-nothing", data_state="nothing")


def export_links(export: str, report: str, address: str, runs: int, view: View) -> Html:
    """What can be taken away, each with what is in it."""
    whole = f"Every logged value of {len(view.refs)} metrics of {runs:,} {'run' if runs == 1 else 'runs'}: nothing is thinned or cut off. "
    long = "One line per value: run, step, epoch, time, role, metric, value."
    offers = (
        ("Report", f"{report}?{address}", "One HTML file with charts, settings, results, verdicts and where they come from. "
         "It opens without a server or network: mail it, archive it."),
        ("CSV", f"{export}?{address}&format=csv", whole + long),
        ("Parquet", f"{export}?{address}&format=parquet", whole + "The same columns, compressed: pandas.read_parquet reads it."),
    )  # fmt: skip
    tiles = [
        el(
            "a",
            el("strong", f"Download {name}"),
            el("span", about, cls="sv-dim"),
            href=address,
            download="",
            cls="sv-offer",
            data_export=name.lower(),
        )
        for name, address, about in offers
    ]
    pictures = el(
        "p", "A single chart: point at it and press PNG or SVG at its upper right; title and legend come with it.", cls="sv-dim"
    )
    return el("div", el("div", *tiles, cls="sv-offers"), pictures)
