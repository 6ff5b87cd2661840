// What stands above the list: search, grouping, columns, counts to click, and what can be done with the selected runs.

function pop(label, words, ...children) {
  const details = make("details", "sv-pop", make("summary", "sv-button", label), make("div", "sv-pop-body", ...children));
  details.firstChild.title = words;
  details.addEventListener("keydown", (event) => { if (event.key === "Escape") { details.open = false; details.firstChild.focus(); } });
  details.addEventListener("focusout", (event) => { if (event.relatedTarget && !details.contains(event.relatedTarget)) details.open = false; });
  return details;
}

function makeBar(self) {
  const search = make("input", "sv-search");
  Object.assign(search, { type: "search", placeholder: "Search, or state:running auroc>0.8 loss.beta_max>0.5", value: self.view.q, spellcheck: false, autocomplete: "off" });
  search.ariaLabel = "Search and filter runs";
  search.addEventListener("input", () => self.change({ q: search.value }));
  search.addEventListener("keydown", (event) => { if (event.key === "ArrowDown" && self.items?.length) { event.preventDefault(); moveTo(self, 0); } });
  const help = action("sv-help", "?", "", () => undefined);
  help.ariaLabel = "How to search";
  const tip = make("p", "sv-tip", self.api.data.help);
  tip.id = "sv-search-help";
  help.setAttribute("aria-describedby", tip.id);
  const group = make("select", "sv-button");
  group.ariaLabel = "Group by";
  group.addEventListener("change", () => self.change({ group: group.value }));
  for (const event of ["pointerdown", "focus"]) group.addEventListener(event, () => offerFields(self));
  const sorter = make("select", "sv-button sv-sorter"); // cards have no head to click
  sorter.ariaLabel = "Sort by";
  sorter.addEventListener("change", () => {
    const id = sorter.value.replace(/^-/, "");
    self.change({ sort: id ? { id, down: id !== sorter.value } : null });
  });
  const filter = make("input", "sv-search");
  Object.assign(filter, { type: "search", placeholder: "Find a column or an option", ariaLabel: "Find a column" });
  const choices = make("div", "sv-choices");
  filter.addEventListener("input", () => { for (const one of choices.children) one.hidden = !lower(one.textContent).includes(lower(filter.value.trim())); });
  const archived = make("input", "");
  Object.assign(archived, { type: "checkbox", checked: self.view.archived });
  archived.addEventListener("change", () => self.change({ archived: archived.checked }));
  const counts = make("div", "sv-counts");
  const status = make("p", "sv-list-status");
  status.role = "status";
  const chosen = make("div", "sv-chosen");
  chosen.role = "toolbar";
  chosen.ariaLabel = "Selected runs";
  Object.assign(self, { search, group, sorter, choices, archivedBox: archived, counts, status, chosen });
  const columns = pop("Columns", "Choose what the list shows", filter, choices);
  columns.addEventListener("toggle", () => { if (columns.open) offerFields(self); });
  const bar = make("div", "sv-bar", make("div", "sv-search-box", search, help, tip), group, sorter, columns, make("label", "sv-check", archived, "archived"));
  return [make("div", "sv-list-head", make("h1", "", "Runs"), counts), bar, status, chosen];
}

function makeEmpty(self) {
  self.empty = make("div", "sv-list-empty");
  const bones = [0, 1, 2, 3, 4, 5].map(() => make("div", "sv-bone"));
  self.empty.append(make("p", "sv-dim", "Reading the runs …"), ...bones);
  return self.empty;
}

const option = (value, label) => Object.assign(make("option", "", label), { value });
const GROUPS = [["", "No groups"], ["state", "state"], ["verdict", "verdict"], ["data", "data set"], ["tag", "tag"], ["device", "device"]];

// What runs differ in is worked out when somebody is about to choose from it.
function offerFields(self) {
  if (!self.facts || self.offered === self.token) return;
  self.offered = self.token;
  const differ = differing(self);
  const same = self.facts.options.filter((name) => !differ.includes(name));
  const section = (label, names) => {
    const made = make("optgroup", "", ...names.map((name) => option(name, name)));
    made.label = label;
    return made;
  };
  self.group.replaceChildren(...GROUPS.map(([value, label]) => option(value, value ? `Group by ${label}` : label)), section("Options in which runs differ", differ), section("Other options", same));
  self.sorter.replaceChildren(option("", "Newest first"), ...COLUMNS.flatMap((column) => [
    option(column.id, `${column.label} ↑`), option(`-${column.id}`, `${column.label} ↓`)]));
  const box = (id, label) => {
    const input = make("input", "");
    Object.assign(input, { type: "checkbox", value: id, checked: self.view.ids.includes(id), disabled: id === "name" });
    input.addEventListener("change", () => self.change({ ids: input.checked ? [...self.view.ids, id] : self.view.ids.filter((one) => one !== id) }));
    return make("label", "sv-check", input, label);
  };
  self.group.value = self.view.group;
  self.choices.replaceChildren(...COLUMNS.map((column) => box(column.id, column.label)), ...[...differ, ...same].map((name) => box(name, name)));
}

function drawBar(self, visible) {
  const { view, hits } = self;
  if (self.search !== document.activeElement && self.search.value !== view.q) self.search.value = view.q;
  if (self.group.value !== view.group) self.group.value = [...self.group.options].some((one) => one.value === view.group) ? view.group : "";
  self.sorter.value = view.sort ? (view.sort.down ? "-" : "") + view.sort.id : "";
  self.archivedBox.checked = view.archived;
  drawCounts(self, visible);
  const some = hits.length !== visible.length ? `${hits.length.toLocaleString("en")} of ${visible.length.toLocaleString("en")} runs` : "";
  const reading = self.unread ? `Still reading ${self.unread.toLocaleString("en")} runs: what is missing follows.` : "";
  const lost = self.lost ? `No connection to the dashboard (${self.lost}): the list may be out of date. Trying again.` : "";
  self.status.textContent = [...self.errors, lost, reading, some].filter(Boolean).join(" · ");
  self.status.classList.toggle("sv-wrong", self.errors.length > 0 || Boolean(self.lost));
  self.search.setAttribute("aria-invalid", String(self.errors.length > 0));
  drawChosen(self);
  drawEmpty(self, visible);
}

function drawCounts(self, visible) {
  const tally = new Map();
  for (const row of visible) tally.set(row.state, (tally.get(row.state) ?? 0) + 1);
  const alarms = visible.filter((row) => row.verdict?.severity === "alarm").length;
  const chips = STATES.filter((state) => tally.has(state)).map((state) => [`state:${state}`, self.facts.badges[state].word, tally.get(state), state]);
  if (alarms) chips.push(["verdict:alarm", "Alarm", alarms, "alarm"]);
  const sign = JSON.stringify([visible.length, chips, self.view.q]);
  if (self.counts.sign === sign) return;
  self.counts.sign = sign;
  const words = self.view.q.split(/\s+/).filter(Boolean);
  self.counts.replaceChildren(make("span", "sv-dim", `${visible.length.toLocaleString("en")}`), ...chips.map(([word, label, number, cls]) => {
    const on = words.includes(word);
    const chip = action(`sv-count sv-${cls}`, `${label} ${number.toLocaleString("en")}`, on ? "Show all again" : `Show only ${word}`, () => {
      const q = on ? words.filter((one) => one !== word) : [...words.filter((one) => !one.startsWith(`${word.split(":")[0]}:`)), word];
      self.search.value = q.join(" ");
      self.change({ q: q.join(" ") });
    });
    chip.ariaPressed = String(on);
    return chip;
  }));
}

function drawChosen(self) {
  const names = [...self.selected].filter((name) => self.rows.has(name));
  const hidden = names.length - self.hits.filter((row) => self.selected.has(row.name)).length;
  const boxes = self.shownNames();
  const on = boxes.filter((name) => self.selected.has(name)).length;
  Object.assign(self.all, { checked: on > 0 && on === boxes.length, indeterminate: on > 0 && on < boxes.length });
  const rows = names.map((name) => self.rows.get(name));
  const sign = JSON.stringify([names, hidden, rows.map((row) => row.archived)]);
  if (self.chosen.sign === sign) return;
  self.chosen.sign = sign;
  self.chosen.hidden = !names.length;
  const act = (what, runs = names) => () => self.api.setTriggerValue("act", { what, runs });
  const compare = action("sv-button sv-main", "Compare", names.length > MOST_COMPARED ? `At most ${MOST_COMPARED} runs at once` : "Overlay their curves",
    () => self.api.setTriggerValue("open", { page: "compare", runs: names }));
  compare.disabled = names.length > MOST_COMPARED;
  const fresh = rows.filter((row) => !row.archived).map((row) => row.name);
  const stored = rows.filter((row) => row.archived).map((row) => row.name);
  const many = `${names.length.toLocaleString("en")} selected${hidden ? ` (${hidden.toLocaleString("en")} not shown)` : ""}`;
  self.chosen.replaceChildren(
    make("strong", "", many), compare, action("sv-button", names.length === 1 ? "Tags and note …" : "Tags …", "", act("notes")),
    ...(fresh.length ? [action("sv-button", "Archive …", "Hide from the list; nothing is deleted", act("archive", fresh))] : []),
    ...(stored.length ? [action("sv-button", "Restore", "Back into the list", act("restore", stored))] : []),
    action("sv-button sv-danger", "Delete …", "Asks first", act("delete")),
    action("sv-list-plain", "clear", "", () => { self.selected.clear(); arrange(self); }),
  );
}

function drawEmpty(self, visible) {
  const { hits, rows, view, archivedHits } = self;
  self.empty.hidden = hits.length > 0;
  self.scroller.hidden = hits.length === 0;
  if (hits.length) return;
  const show = action("sv-button", `Show ${archivedHits.toLocaleString("en")} archived`, "", () => self.change({ archived: true }));
  const clear = action("sv-button", "Clear the search", "", () => { self.search.value = ""; self.change({ q: "" }); self.search.focus(); });
  const title = view.q.trim() ? "No run matches the search" : visible.length || !rows.size ? "No runs" : `All ${rows.size.toLocaleString("en")} runs are archived`;
  const detail = view.q.trim() ? `Nothing is found for ${view.q.trim()}.` : "New runs show up here by themselves.";
  self.empty.replaceChildren(make("h2", "", title), make("p", "sv-dim", detail),
    make("p", "sv-row", view.q.trim() ? clear : null, archivedHits && !view.archived ? show : null));
}
