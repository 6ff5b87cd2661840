// The table of the list of runs: only rows near the screen exist. A changed run changes its own cells; nothing else moves.
// self: { facts, columns, items, selected, active, sort, collapsed, cards } and the handlers open, edit, toggle, sortBy, fold, mark.

const ROW = 58;
const GROUP = 42;
const CARD = 141;
const CARD_LINE = 40;
const OVERSCAN = 400;
const NARROW = 760;
const IN_TOP_OF_CARD = ["name", "state", "verdict", "progress"];

function makeTable(self) {
  const all = make("input", "");
  Object.assign(all, { type: "checkbox", ariaLabel: "select all runs that are shown", tabIndex: 0 });
  all.addEventListener("change", () => self.mark(self.shownNames(), all.checked));
  const table = make("table", "sv-list sv-runs", make("colgroup"), make("thead", "", make("tr")), make("tbody"));
  table.ariaLabel = "Runs";
  const scroller = make("div", "sv-list-scroll", table);
  Object.assign(self, { all, table, scroller, body: table.tBodies[0], made: new Map(), above: spacer(), below: spacer() });
  self.body.append(self.above, self.below);
  self.body.addEventListener("keydown", (event) => keys(self, event));
  self.body.addEventListener("click", (event) => clicked(self, event));
  self.body.addEventListener("focusin", (event) => { const tr = event.target.closest("tr"); if (tr?.item) activate(self, tr.item.key); });
  return scroller;
}

function spacer() {
  const tr = make("tr", "sv-list-space");
  tr.ariaHidden = "true";
  return tr;
}

function drawHead(self) {
  const { columns, facts, sort } = self;
  self.table.querySelector("colgroup").replaceChildren(...[36, ...columns.map((one) => one.width), 40].map((width) => {
    const col = make("col");
    if (width) col.style.width = `${width}px`;
    return col;
  }));
  self.table.style.minWidth = `${columns.reduce((sum, one) => sum + (one.width || 250), 76)}px`;
  const heads = columns.map((column) => {
    const mine = sort?.id === column.id;
    const head = make("th", column.numeric ? "sv-num" : "", action("sv-list-sort", column.label, "", () => self.sortBy(column)));
    head.scope = "col";
    head.dataset.column = column.id;
    head.ariaSort = mine ? (sort.down ? "descending" : "ascending") : "none";
    head.firstChild.title = `${column.help ? `${column.help}\n` : ""}Click to sort.`;
    if (mine) head.firstChild.append(make("span", "sv-list-arrow", sort.down ? " ↓" : " ↑"));
    return head;
  });
  const focused = self.table.tHead.contains(document.activeElement) ? document.activeElement.closest("th")?.dataset.column : null;
  self.table.tHead.rows[0].replaceChildren(make("th", "", self.all), ...heads, make("th", "", make("span", "sv-hidden", "Notes")));
  if (focused) self.table.tHead.querySelector(`th[data-column="${CSS.escape(focused)}"] button`)?.focus();
  self.made.forEach((tr) => tr.remove());
  self.made.clear();
}

// What stands under what: groups and rows with the height each has.
function layOut(self, groups) {
  const small = self.columns.filter((column) => !IN_TOP_OF_CARD.includes(column.id)).length;
  const height = self.cards ? CARD + Math.ceil(small / 3) * CARD_LINE : ROW;
  const items = [];
  let top = 0;
  const put = (item, size) => { items.push({ ...item, top, size, index: items.length }); top += size; };
  for (const group of groups) {
    if (group.key !== null) put({ kind: "group", key: `group ${group.key}`, group }, GROUP);
    if (group.key !== null && self.collapsed.has(group.key)) continue;
    for (const row of group.rows) put({ kind: "row", key: `${row.name}/${group.key ?? ""}`, row }, height);
  }
  self.items = items;
  self.height = top;
  self.table.ariaRowCount = String(items.length + 1);
  self.table.style.setProperty("--row", `${height}px`);
}

function firstBelow(items, y) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].top + items[middle].size <= y) low = middle + 1;
    else high = middle;
  }
  return low;
}

function draw(self) {
  if (!self.scroller.isConnected || !self.items) return;
  const inside = self.cards ? null : self.scroller;
  const from = inside ? inside.scrollTop : -self.body.getBoundingClientRect().top;
  const seen = inside ? inside.clientHeight : innerHeight;
  const first = firstBelow(self.items, from - OVERSCAN);
  const last = firstBelow(self.items, from + seen + OVERSCAN);
  const wanted = self.items.slice(first, last + 1);
  const keep = new Set(wanted.map((item) => item.key));
  for (const [key, tr] of self.made) {
    if (keep.has(key)) continue;
    tr.remove();
    self.made.delete(key);
  }
  self.above.style.height = `${wanted[0]?.top ?? 0}px`;
  self.below.style.height = `${self.height - (wanted.length ? wanted.at(-1).top + wanted.at(-1).size : 0)}px`;
  let after = self.above;
  for (const item of wanted) {
    const tr = self.made.get(item.key) ?? newRow(self, item);
    fill(self, tr, item);
    if (after.nextSibling !== tr) after.after(tr);
    after = tr;
  }
}

function newRow(self, item) {
  const tr = make("tr", item.kind === "group" ? "sv-list-group" : "");
  if (item.kind === "row") {
    const box = make("input", "");
    Object.assign(box, { type: "checkbox", tabIndex: -1, ariaLabel: `select ${item.row.name}` });
    const edit = action("sv-list-edit", "✎", `Tags and note of ${item.row.name}`, () => self.edit([tr.item.row.name]));
    edit.tabIndex = -1;
    tr.dataset.name = item.row.name;
    tr.append(make("td", "sv-list-check", box), ...self.columns.map((column) => {
      const td = make("td", column.numeric ? "sv-num" : "");
      td.dataset.column = column.id;
      td.dataset.label = column.label;
      return td;
    }), make("td", "sv-list-more", edit));
  } else {
    const td = make("td", "");
    td.colSpan = self.columns.length + 2;
    tr.append(td);
  }
  self.made.set(item.key, tr);
  return tr;
}

function fill(self, tr, item) {
  tr.item = item;
  tr.tabIndex = item.key === self.active || (self.active === null && item.index === 0) ? 0 : -1;
  tr.ariaRowIndex = String(item.index + 2);
  if (item.kind === "group") return fillGroup(self, tr, item.group);
  const chosen = self.selected.has(item.row.name);
  tr.ariaSelected = String(chosen);
  tr.cells[0].firstChild.checked = chosen;
  if (tr.row === item.row) return undefined;
  tr.row = item.row;
  tr.classList.toggle("sv-list-archived", item.row.archived);
  self.columns.forEach((column, at) => {
    const td = tr.cells[at + 1];
    const sign = signOf(column, item.row);
    if (td.sign === sign) return;
    td.sign = sign;
    td.replaceChildren(column.cell(item.row, self.facts));
  });
  return undefined;
}

function fillGroup(self, tr, group) {
  const scores = group.rows.map((row) => row.auroc).filter((score) => score !== null).sort((a, b) => b - a);
  const middle = scores.length ? (scores[(scores.length - 1) >> 1] + scores[scores.length >> 1]) / 2 : null;
  const best = scores.length ? `best AUROC ${scores[0].toFixed(3)}, median ${middle.toFixed(3)}` : "no AUROC yet";
  const open = !self.collapsed.has(group.key);
  const sign = JSON.stringify([open, group.label, group.rows.length, best]);
  if (tr.sign === sign) return;
  tr.sign = sign;
  const fold = action("sv-list-fold", "", "", () => self.fold(group.key));
  fold.tabIndex = -1;
  fold.ariaExpanded = String(open);
  fold.append(make("span", "sv-list-arrow", open ? "▾" : "▸"), make("strong", "", `${self.groupName} `), make("span", "", group.label));
  const choose = action("sv-list-plain", "select", "", () => self.mark(tr.item.group.rows.map((row) => row.name), true));
  choose.tabIndex = -1;
  const facts = make("span", "sv-dim", `${group.rows.length.toLocaleString("en")} ${group.rows.length === 1 ? "run" : "runs"} · ${best}`);
  tr.cells[0].replaceChildren(make("div", "", fold, facts, choose));
}

function activate(self, key) {
  if (self.active === key) return;
  self.active = key;
  self.made.forEach((tr) => { tr.tabIndex = tr.item.key === key ? 0 : -1; });
}

function moveTo(self, index) {
  const item = self.items[Math.max(0, Math.min(index, self.items.length - 1))];
  if (!item) return;
  if (!self.cards) {
    const head = self.table.tHead.offsetHeight;
    const { scrollTop, clientHeight } = self.scroller;
    if (item.top < scrollTop) self.scroller.scrollTop = item.top;
    else if (item.top + item.size > scrollTop + clientHeight - head) self.scroller.scrollTop = item.top + item.size - clientHeight + head;
  }
  activate(self, item.key);
  draw(self);
  self.made.get(item.key)?.focus({ preventScroll: !self.cards });
}

function keys(self, event) {
  const tr = event.target.closest("tr");
  const item = tr?.item;
  if (!item || event.altKey) return;
  const page = Math.max(1, Math.floor(self.scroller.clientHeight / ROW) - 1);
  const to = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
  if (to !== undefined) moveTo(self, to === Infinity ? self.items.length - 1 : item.index + to);
  else if ((event.ctrlKey || event.metaKey) && event.key === "a") self.mark(self.shownNames(), true);
  else if (event.target !== tr || event.ctrlKey || event.metaKey) return;
  else if (event.key === "Enter") item.kind === "group" ? self.fold(item.group.key) : self.open(item.row.name);
  else if (event.key === " " && item.kind === "row") self.toggle(item, event.shiftKey);
  else if (event.key === "e" && item.kind === "row") self.edit([item.row.name]);
  else return;
  event.preventDefault();
}

function clicked(self, event) {
  const item = event.target.closest("tr")?.item;
  if (item?.kind !== "row" || event.target.closest("button")) return;
  const link = event.target.closest("a");
  if (link) {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return; // a tab of its own
    event.preventDefault();
    self.open(item.row.name);
  } else if (event.target.closest(".sv-list-check") || event.shiftKey || event.ctrlKey || event.metaKey) {
    self.toggle(item, event.shiftKey);
  } else if (!String(getSelection())) {
    self.open(item.row.name);
  }
}
