"""What a page says when there is nothing to show yet."""

from pathlib import Path

from dashboard.runs.loading import why_refused
from dashboard.widgets import Html, el


def landing(runs: Path) -> Html:
    """For somebody with no run: how to get one."""
    return el(
        "section",
        el("h1", "No runs yet"),
        el("p", "A run shows up here by itself, as soon as training starts in ", el("code", str(runs)), "."),
        el(
            "ol",
            el("li", el("strong", "Try it: "), "simulated patients, a small model, live curves in a minute or two.",
               el("code", "make demo", cls="sv-command")),
            el("li", el("strong", "Train on your own data: "), "prepare it, then start a run; every option is explained by --help.",
               el("code", f"python -m backend train --output_dir {runs}\npython -m backend train --help", cls="sv-command")),
            el("li", el("strong", "Runs are elsewhere? "), "Start the dashboard on that folder.",
               el("code", "python -m dashboard --runs DIR", cls="sv-command")),
        ),
        cls="sv-landing", data_state="landing",
    )  # fmt: skip


def waiting() -> Html:
    """For a run that has not made a step."""
    return el(
        "section",
        el("h1", "Waiting for the first step"),
        el("p", "The run has been created but has not logged a step yet. Loading data and compiling the model can take minutes; "
           "the charts appear by themselves. If nothing happens, look into console.log in the run's folder."),
        cls="sv-landing", data_state="waiting",
    )  # fmt: skip


def gone(name: str, runs: Path) -> Html:
    """For a run that does not exist, or no longer, or that must not be read."""
    refused = why_refused(runs, name)
    if refused is not None:
        return el(
            "section",
            el("h1", "This run is not read"),
            el("p", el("code", name), ": ", refused, ". Put the file itself in the place of the link, or remove the link; then "
               "this page shows the run."),
            el("p", el("a", "See all runs", href="./")),
            cls="sv-landing", data_state="refused",
        )  # fmt: skip
    return el(
        "section",
        el("h1", "This run is not here"),
        el("p", "There is no run folder named ", el("code", name), " directly in ", el("code", str(runs)),
           ". It may have been deleted, moved or renamed. If it comes back, this page shows it again."),
        el("p", el("a", "See all runs", href="./")),
        cls="sv-landing", data_state="gone",
    )  # fmt: skip
