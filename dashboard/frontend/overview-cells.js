// The columns of the list of runs, and what stands in their cells. Every text is set as text: names and notes are never markup.

function make(tag, cls, ...children) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function action(cls, label, words, then) {
  const button = make("button", cls, label);
  button.type = "button";
  if (words) button.title = words;
  if (words && !/\w/.test(label)) button.ariaLabel = words; // a sign has no name of its own
  button.addEventListener("click", then);
  return button;
}

const DASH = "–";
const pages = { live: (name) => `live?run=${encodeURIComponent(name)}` };

// The line a run is drawn with on every page: its colour, and the dash that tells it apart for those who see no colours.
function swatch(row, facts) {
  const { palette, dashes } = facts;
  const at = row.slot % palette.light.length;
  const dash = dashes[Math.floor(row.slot / palette.light.length) % dashes.length];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const patterns = { solid: "none", dash: "6 3", dot: "2 2.5", dashdot: "6 2 2 2" };
  for (const [name, value] of [["x1", 0], ["x2", 18], ["y1", 4], ["y2", 4], ["stroke-dasharray", patterns[dash] ?? "none"]]) line.setAttribute(name, value);
  svg.setAttribute("class", "sv-swatch");
  svg.setAttribute("aria-hidden", "true");
  svg.style.color = `light-dark(${palette.light[at]}, ${palette.dark[at]})`;
  svg.append(line);
  return svg;
}

function nameCell(row, facts) {
  const link = make("a", "", row.name);
  link.href = pages.live(row.name);
  link.dataset.run = row.name;
  link.tabIndex = -1;
  link.title = row.name;
  const broken = row.state === "broken" || (row.reason && !["failed", "interrupted", "stale", "dead"].includes(row.state));
  const about = make("div", "sv-list-about sv-dim");
  if (row.archived) about.append(make("span", "sv-chip", "archived"));
  if (row.simulated) about.append(make("span", "sv-tag", "simulated data"));
  for (const tag of row.tags) about.append(make("span", "sv-chip", tag));
  const words = broken ? row.reason : [row.data, row.note].filter(Boolean).join(" · ");
  if (words) about.append(make("span", broken ? "sv-list-reason" : "", words));
  about.title = [row.reason, row.data, row.tags.length ? `tags: ${row.tags.join(", ")}` : "", row.note].filter(Boolean).join("\n");
  return make("div", "sv-list-name", make("div", "sv-list-title", swatch(row, facts), link), about.childNodes.length ? about : null);
}

function stateCell(row, facts) {
  const { sign, word } = facts.badges[row.state];
  const mark = make("span", "sv-sign", sign);
  mark.ariaHidden = "true";
  const badge = make("span", `sv-badge sv-${row.state}`, mark, word);
  badge.dataset.state = row.state;
  if (row.reason) badge.title = row.reason;
  return badge;
}

function verdictCell(row, facts) {
  if (!row.verdict) return make("span", "sv-dim", row.complete ? DASH : "…");
  const { severity, title, detail } = row.verdict;
  const shownVerdict = make("span", `sv-verdict sv-${severity}`, make("span", "sv-icon", facts.signs[severity]), make("span", "sv-clip", title));
  shownVerdict.title = `${title}. ${detail}`;
  return shownVerdict;
}

function progressCell(row) {
  const cell = make("div", "", make("span", "", row.text.progress));
  if (row.planned) {
    const bar = make("div", "sv-progress", make("span", ""));
    bar.role = "progressbar";
    bar.ariaLabel = "steps done";
    bar.ariaValueNow = String(Math.round(Math.min(row.step / row.planned, 1) * 100));
    bar.firstChild.style.width = `${Math.min(row.step / row.planned, 1) * 100}%`;
    cell.append(bar);
  }
  return cell;
}

const words = (text) => make("span", text === DASH ? "sv-dim" : "", text);
const figure = (name) => (row) => words(row.complete || row[name] !== null ? row.text[name] : "…");
const scoreCell = (row) => Object.assign(figure("auroc")(row), { title: row.auroc_on });
const plain = (name) => (row) => words(row[name] || DASH);

// width in px (0: takes what is left); sign: what a cell depends on, so that only cells that changed are made anew.
const COLUMNS = [
  { id: "name", label: "Run", width: 0, cell: nameCell, sign: (row) => [row.name, row.slot, row.archived, row.simulated, row.tags, row.data, row.note, row.reason, row.state === "broken"] },
  { id: "state", label: "State", width: 132, cell: stateCell, sign: (row) => [row.state, row.reason] },
  { id: "verdict", label: "Verdict", width: 186, cell: verdictCell, sign: (row) => [row.verdict, row.complete],
    help: "What the collapse rules conclude from the probe evaluations. Click a run to see the evidence and the remedy." },
  { id: "progress", label: "Progress", width: 124, cell: progressCell, down: true, help: "Optimizer steps done, of those planned." },
  { id: "auroc", label: "Best AUROC", width: 114, cell: scoreCell, down: true, numeric: true, sign: (row) => [row.text.auroc, row.auroc_on, row.complete],
    help: "Largest validation AUROC of the run, among validations on the same stays; hover a figure for how many, and for that of the whole split. 0.5 is chance, 0.7 to 0.8 good, above 0.9 excellent." },
  { id: "units", label: "Active units", width: 108, cell: figure("units"), down: true, numeric: true,
    help: "Latent dimensions that still depend on the input, at the newest probe evaluation. Few of many: collapse." },
  { id: "started", label: "Started", width: 116, cell: figure("started"), down: true, help: "In UTC." },
  { id: "duration", label: "Duration", width: 108, cell: figure("duration"), down: true, help: "Time in which it was worked on, to the last sign of life; a pause between an interrupt and a resume is left out." },
  { id: "device", label: "Device", width: 120, cell: plain("device") },
  { id: "data", label: "Data set", width: 160, cell: plain("data"), optional: true },
  { id: "step", label: "Step", width: 90, cell: (row) => words(row.step.toLocaleString("en")), down: true, numeric: true, optional: true },
  { id: "tag", label: "Tags", width: 160, cell: (row) => words(row.tags.join(", ") || DASH), optional: true },
  { id: "note", label: "Note", width: 240, cell: plain("note"), optional: true },
];
const STANDARD = COLUMNS.filter((column) => !column.optional).map((column) => column.id);

function columnOf(id, facts) {
  const known = COLUMNS.find((column) => column.id === id);
  if (known) return known;
  const value = (row) => optionOf(row, id, facts.defaults);
  const cell = (row) => words(value(row) === undefined ? DASH : shown(value(row)));
  return { id, label: id.split(".").at(-1), help: `Option ${id}`, width: 128, cell, sign: (row) => [value(row)], option: true };
}

const signOf = (column, row) => JSON.stringify((column.sign ?? ((one) => [one[column.id], one.text[column.id], one.complete]))(row));
