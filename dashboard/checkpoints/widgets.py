"""The list of checkpoints and what is in one, as HTML in which every text is escaped."""

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from dashboard.checkpoints.hash import Check, Hash
from dashboard.checkpoints.inside import PARTS, Inside
from dashboard.checkpoints.listing import KINDS, Checkpoint, Leftover
from dashboard.checkpoints.values import Difference
from dashboard.formats import DASH, count, duration, moment, number, size
from dashboard.widgets import Html, banner, el, imported, is_imported, join
from shared.metrics import VALIDATION
from shared.reader import Health, RunStatus
from shared.schema import now

SIGNS: dict[Hash, tuple[str, str, str]] = {
    Hash.UNCHECKED: ("○", "not checked", "info"),
    Hash.CHECKING: ("◔", "checking", "info"),
    Hash.OK: ("✓", "ok", "ok"),
    Hash.DIFFERS: ("✕", "differs", "alarm"),
    Hash.NO_SIDECAR: ("?", "no sidecar", "warning"),
    Hash.BAD_SIDECAR: ("!", "sidecar unreadable", "warning"),
    Hash.UNREADABLE: ("✕", "unreadable", "alarm"),
    Hash.GONE: ("✕", "file gone", "alarm"),
}
"""Sign, word and tone per state of a check: colour is never the only difference."""
IN_LIST = ("auroc", "auprc", "elbo", "loss")
HEADS = ("Checkpoint", "Step", "Epoch", "Validation", "Size", "Saved", "Hash", "Difference")
GROUP_WORDS = {"data": "Data", "model": "Model", "loss": "Loss", "optim": "Optimizer", "trainer": "Trainer", "monitor": "Monitor",
               "output": "Output"}  # fmt: skip


def age(at: datetime | None) -> Html:
    """The time of saving, and how long ago that is; the latter is kept up to date by the page itself."""
    if at is None:
        return Html(DASH)
    ago = f"{duration((now() - at).total_seconds())} ago"
    return join([el("span", moment(at)), el("span", ago, cls="sv-dim sv-ago", data_at=str(int(at.timestamp())))])


def hash_mark(check: Check) -> Html:
    """The state of a check: sign, word and colour, the rest in its title."""
    sign, word, tone = SIGNS[check.state]
    shown = f"{word} {check.share:.0%}" if check.state is Hash.CHECKING else word
    return el("span", el("span", sign, cls="sv-sign", aria_hidden="true"), shown, cls=f"sv-badge sv-{tone}",
              data_hash=check.state.value, title=check.words)  # fmt: skip


def link(text: str, query: Mapping[str, str], **attributes: str | None) -> Html:
    """A link to another view of this page, opened without loading the page."""
    there = urlencode(query)
    return el("a", text, href=f"checkpoints?{there}", data_run=there, **attributes)


def checkpoint_table(
    found: list[Checkpoint], checks: Mapping[str, Check], peeks: Mapping[str, Inside], address: Mapping[str, str]
) -> Html:
    """The checkpoints of a run, newest first: a table on a wide screen, cards on a narrow one.

    `peeks` has the insides of those without a sidecar; `address` is what the page shows: run, checkpoint, against.
    """
    rows = [_row(one, checks[one.name], peeks.get(one.name), address) for one in found]
    heads = el("tr", *(el("th", head, scope="col") for head in HEADS))
    return el("table", el("thead", heads), el("tbody", *rows), cls="sv-ckpts")


def _row(one: Checkpoint, check: Check, peek: Inside | None, address: Mapping[str, str]) -> Html:
    chosen = one.name == address.get("checkpoint")
    told = one.sidecar
    step = told.step if told else peek.step if peek else None
    epoch = told.epoch if told else peek.epoch if peek else None
    name = link(one.name, {**address, "checkpoint": one.name}, aria_current="true" if chosen else None)
    same = el("div", f"same bytes on the disk as {', '.join(one.twins)}", cls="sv-dim") if one.twins else None
    against = address.get("against") == one.name and address.get("against_run", address["run"]) == address["run"]
    words = "a" if chosen else "b" if against else DASH if one.identity is None else None
    compare = el("span", words, cls="sv-dim") if words else link(
        "compare", {**address, "against": one.name, "against_run": address["run"]}, aria_label=f"compare with {one.name}"
    )  # fmt: skip
    values = (
        el("div", name, el("div", el("b", one.kind), ": ", KINDS[one.kind], cls="sv-dim"), same),
        el("span", count(step)),
        el("span", DASH if epoch is None else f"{epoch:.2f}"),
        _metrics(told.metrics if told else {}),
        el("span", size(one.bytes)),
        el("div", age(one.at)),
        el("div", hash_mark(check)),
        el("div", compare),
    )
    cells = (el("td", value, data_label=head) for head, value in zip(HEADS, values, strict=True))
    return el("tr", *cells, cls="sv-ckpt-a" if chosen else "sv-ckpt-b" if against else None, data_name=one.name)


def _metrics(metrics: Mapping[str, float | None]) -> Html:
    shown = [(name, metrics[name]) for name in IN_LIST if metrics.get(name) is not None][:3]
    parts = [el("span", el("span", VALIDATION[name].label, cls="sv-dim"), f" {number(value, 3)}") for name, value in shown]
    return el("div", *(parts or [el("span", DASH, title="no validation was made when it was saved")]), cls="sv-metrics")


def leftovers(found: list[Leftover], running: bool) -> Html | None:
    """Half-written files."""
    if not found:
        return None
    named = ", ".join(f"{left.name} ({size(left.bytes)}, {duration((now() - left.at).total_seconds())} old)" for left in found)
    if running:
        return banner("info", "Being written now.", f"{named}. It gets its name when it is whole.")
    return banner("warning", "Left half-written.", f"{named}: the process was killed while it saved. Nothing reads it.",
                  "Resuming the run removes it; or delete it by hand.")  # fmt: skip


def details_card(one: Checkpoint, check: Check, inside: Inside | None) -> Html:
    """The head of one checkpoint: its kind, its figures, and what is wrong with it."""
    told = one.sidecar
    step = told.step if told else inside.step if inside else None
    epoch = told.epoch if told else inside.epoch if inside else None
    stats = [("Step", count(step), ""), ("Epoch", DASH if epoch is None else f"{epoch:.2f}", ""), ("Size", size(one.bytes), "")]
    if inside is not None:
        stats.append(("Weights", _short(inside.count("weights")), "values"))
    metrics = told.metrics if told else {}
    stats += [(VALIDATION[name].label, number(value, 3), VALIDATION[name].unit) for name, value in metrics.items()
              if name in VALIDATION and value is not None and name in (*IN_LIST, "kl", "recon", "accuracy")][:8]  # fmt: skip
    boxes = [
        el("div", el("dt", label), el("dd", shown, el("small", f" {unit}") if unit else None)) for label, shown, unit in stats
    ]
    about = el("p", el("b", one.kind), el("span", KINDS[one.kind], cls="sv-dim"), hash_mark(check), cls="sv-about")
    lines = None if check.remedy else el("p", f"Hash: {check.words}.", cls="sv-dim sv-ckpt-hash")
    return el("header", about, el("dl", *boxes, cls="sv-stats"), lines, cls="sv-head sv-ckpt-head", data_checkpoint=one.name)


def warnings(check: Check, inside: Inside | None) -> Html:
    """What to know before anybody loads it."""
    found = []
    if check.remedy:
        title = {Hash.DIFFERS: "The file is not the one its sidecar describes.", Hash.GONE: "The file is gone."}.get(
            check.state
        )
        tone = SIGNS[check.state][2]
        found.append(
            banner(tone, title or "The hash cannot be checked.", f"{check.words[:1].upper()}{check.words[1:]}.", check.remedy)
        )
    if inside is not None and inside.dangerous:
        found.append(banner(
            "alarm", "Loading this file the usual way would run programs.",
            f"It calls {', '.join(inside.dangerous[:6])}. Nothing of it was run here: this page reads without unpickling.",
            "Do not load it with torch.load(weights_only=False); find out who wrote it.",
        ))  # fmt: skip
    elif inside is not None and inside.calls:
        more = f" and {len(inside.calls) - 6} more" if len(inside.calls) > 6 else ""
        found.append(banner(
            "info", "Some objects in it are not read.", f"Only unpickling could rebuild {', '.join(inside.calls[:6])}{more}; the plain "
            "values that they hold are shown.",
        ))  # fmt: skip
    return el("div", *found, cls="sv-banners")


def _short(value: float) -> str:
    for unit, size_of in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size_of:
            return f"{value / size_of:.3g} {unit}"
    return f"{value:.0f}"


def groups(values: Mapping[str, str], others: Mapping[str, str] | None = None) -> Html:
    """Settings by group, each in a card; with `others` only what differs, this value beside the other's."""
    cards: dict[str, list[Html]] = {}
    for name in [*values, *(name for name in others or {} if name not in values)]:
        ours, theirs = values.get(name, "not there"), (others or {}).get(name, "not there")
        if others is not None and ours == theirs:
            continue
        group, dot, option = name.partition(".")
        shown = (
            el("dd", ours)
            if others is None
            else el("dd", el("span", ours), el("span", " → ", cls="sv-dim"), el("span", theirs))
        )
        cards.setdefault(group if dot else "", []).append(el("div", el("dt", option if dot else group), shown))
    return el(
        "div",
        *(
            el("section", el("h3", GROUP_WORDS.get(group, group) or "General"), el("dl", *rows))
            for group, rows in cards.items()
        ),
        cls="sv-groups",
    )


def difference_tiles(found: Difference) -> Html:
    """How many tensors changed, stayed, came and went."""
    tiles = (
        ("Changed", len(found.changed)), ("Same in every value", found.equal), ("Only in a", len(found.only_a)),
        ("Only in b", len(found.only_b)), ("Another shape", len(found.reshaped)), ("Not read", len(found.unread)),
    )  # fmt: skip
    boxes = [
        el("div", el("dt", label), el("dd", count(value)))
        for label, value in tiles
        if value or label in ("Changed", "Same in every value")
    ]
    return el("dl", *boxes, cls="sv-stats sv-tiles")


def plural(number_of: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number_of:,} {word}" + ("" if number_of == 1 else "s")


def parts_line(inside: Inside) -> str:
    """What the tensors belong to, with their numbers."""
    sizes = [(PARTS[part], sum(place.part == part for place in inside.tensors), inside.count(part)) for part in PARTS]
    return " · ".join(
        f"{words}, {plural(tensors, 'tensor')} of {_short(values)} {'value' if values == 1 else 'values'}"
        for words, tensors, values in sizes
        if tensors
    )


def empty(status: RunStatus) -> Html:
    """For a run without a checkpoint: when the next is due, or why there will be none."""
    if is_imported(status):
        return imported("No checkpoints", "no checkpoints")
    beat, info = status.heartbeat, status.info
    trainer = info.config.get("trainer") if info else None
    every = trainer.get("checkpoint_every_n_steps") if isinstance(trainer, dict) else None
    if status.health not in (Health.CREATED, Health.RUNNING, Health.STALE):
        words = "It ended before it saved one. With a smaller --checkpoint_every_n_steps the next run saves sooner."
    elif not isinstance(every, int) or every < 1:
        words = "The first appears here by itself when the run saves one."
    else:
        step = beat.step if beat else 0
        due = (step // every + 1) * every
        wait = duration((due - step) / beat.steps_per_s) if beat and beat.steps_per_s else None
        words = (
            f"The run saves every {every:,} steps (--checkpoint_every_n_steps) and has made {step:,}: the next is due at step {due:,}"
            + (f", in about {wait}." if wait else ".") + " It appears here by itself."
        )  # fmt: skip
    return el("section", el("h1", "No checkpoint yet"), el("p", words), cls="sv-landing", data_state="no-checkpoint")
