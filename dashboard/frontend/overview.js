// The list of runs: fetches rows, and fetches again only what changed when the stream of the list says so; searches, sorts, groups
// and selects here in the browser. What is looked at is in the address (q, sort, group, columns, archived), so it can be shared.
// data: { rows: address of the rows, push: address of the stream, help: how to search }; triggers: open { page, runs },
// act { what: "notes" | "archive" | "restore" | "delete", runs }, empty.

const lists = (globalThis.seqsetLists ??= new WeakMap());
const kept = (globalThis.seqsetListKept ??= { address: "", selected: new Set(), collapsed: new Set() });
const MOST_COMPARED = 100;

function readAddress() {
  if (!location.search && kept.address) history.replaceState(history.state, "", location.pathname + kept.address); // back from another page
  const asked = new URLSearchParams(location.search);
  const sort = asked.get("sort");
  return {
    q: asked.get("q") ?? "", sort: sort ? { id: sort.replace(/^-/, ""), down: sort.startsWith("-") } : null,
    group: asked.get("group") ?? "", ids: asked.get("columns")?.split(",").filter(Boolean) ?? STANDARD, archived: asked.get("archived") === "yes",
  };
}

function writeAddress(self) {
  const { q, sort, group, ids, archived } = self.view;
  const asked = new URLSearchParams();
  if (q.trim()) asked.set("q", q.trim());
  if (sort) asked.set("sort", (sort.down ? "-" : "") + sort.id);
  if (group) asked.set("group", group);
  if (ids.join() !== STANDARD.join()) asked.set("columns", ids.join());
  if (archived) asked.set("archived", "yes");
  kept.address = asked.size ? `?${asked}` : "";
  history.replaceState(history.state, "", location.pathname + kept.address);
}

async function fetchRows(self) {
  if (self.stopped) return;
  if (self.fetching) { self.again = true; return; }
  self.fetching = true;
  try {
    const answer = await fetch(`${self.api.data.rows}?since=${encodeURIComponent(self.token)}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    take(self, await answer.json());
    self.lost = "";
  } catch (error) {
    self.lost = error.message;
    setTimeout(() => fetchRows(self), 3000);
  } finally {
    self.fetching = false;
  }
  arrange(self);
  if (self.again) { self.again = false; fetchRows(self); }
}

function take(self, answer) {
  if (answer.whole) {
    self.rows.clear();
    self.facts = { ...answer, rows: undefined, options: [] };
  }
  const options = new Set(answer.whole ? Object.keys(answer.defaults) : self.facts.options);
  for (const row of answer.rows) {
    self.rows.set(row.name, row);
    for (const name in row.config) options.add(name);
  }
  for (const name of answer.gone) { self.rows.delete(name); self.selected.delete(name); }
  self.facts.options = [...options].sort();
  self.token = answer.token;
  self.unread = answer.unread;
  if (answer.whole) offerFields(self);
  if (!self.rows.size) self.api.setTriggerValue("empty", self.token);
}

// Options in which runs differ are what people group by: they come first.
function differing(self) {
  const rows = [...self.rows.values()].filter((row) => row.state !== "broken");
  return self.facts.options.filter((name) => {
    const first = rows.length ? shown(optionOf(rows[0], name, self.facts.defaults)) : "";
    return rows.some((row) => shown(optionOf(row, name, self.facts.defaults)) !== first);
  });
}

function understand(self, asked, fallback, say) {
  try {
    return asked();
  } catch (error) {
    self.errors.push(say ? `${say}: ${error.message}` : error.message);
    return fallback;
  }
}

function arrange(self) {
  if (!self.facts || !self.root.isConnected) return;
  const { facts, view } = self;
  self.errors = [];
  const all = [...self.rows.values()];
  const asked = understand(self, () => parse(view.q, facts), { asksArchived: false, test: () => true });
  const visible = all.filter((row) => view.archived || asked.asksArchived || !row.archived);
  const hits = visible.filter(asked.test);
  const columns = view.ids.filter((id) => understand(self, () => fieldOf(id, facts), null, "Column"));
  const order = understand(self, () => sorted([...hits], view.sort, facts), null, "Sorting") ?? sorted([...hits], null, facts);
  const groups = view.group && understand(self, () => grouped(order, view.group, facts), null, "Grouping");
  self.sort = view.sort;
  self.groupName = view.group;
  self.hits = order;
  self.archivedHits = all.filter((row) => row.archived && asked.test(row)).length;
  const shape = JSON.stringify([columns, view.sort, self.cards]);
  if (shape !== self.shape) {
    self.shape = shape;
    self.columns = ["name", ...columns.filter((id) => id !== "name")].map((id) => columnOf(id, facts));
    drawHead(self);
  }
  layOut(self, groups || [{ key: null, rows: order }]);
  draw(self);
  drawBar(self, visible);
}

function listen(self) {
  const wanted = !document.hidden;
  if (wanted && (!self.source || self.source.readyState === EventSource.CLOSED)) {
    self.source?.close();
    self.source = new EventSource(self.api.data.push);
    self.source.onmessage = () => fetchRows(self);
    self.source.onerror = () => { self.lost = "no answer"; arrange(self); setTimeout(() => self.source && listen(self), 3000); };
  } else if (!wanted && self.source) {
    self.source.close(); // a hidden tab costs the server nothing; it catches up when it is looked at
    self.source = null;
  }
}

function handlers(self) {
  self.open = (name) => self.api.setTriggerValue("open", { page: "live", runs: [name] });
  self.edit = (runs) => self.api.setTriggerValue("act", { what: "notes", runs });
  self.shownNames = () => [...new Set(self.items.filter((item) => item.kind === "row").map((item) => item.row.name))];
  self.change = (what) => { Object.assign(self.view, what); writeAddress(self); arrange(self); };
  self.mark = (names, on) => {
    for (const name of names) on ? self.selected.add(name) : self.selected.delete(name);
    arrange(self);
  };
  self.toggle = (item, range) => {
    const on = !self.selected.has(item.row.name);
    const from = range ? self.items.findIndex((one) => one.key === self.anchor) : -1;
    const [low, high] = from < 0 ? [item.index, item.index] : [Math.min(from, item.index), Math.max(from, item.index)];
    self.anchor = item.key;
    self.mark(self.items.slice(low, high + 1).filter((one) => one.kind === "row").map((one) => one.row.name), from < 0 ? on : true);
  };
  self.sortBy = ({ id, down = false }) => {
    const now = self.view.sort;
    self.change({ sort: now?.id !== id ? { id, down } : now.down === down ? { id, down: !down } : null });
  };
  self.fold = (key) => { self.collapsed.has(key) ? self.collapsed.delete(key) : self.collapsed.add(key); arrange(self); };
}

function start(parent, api) {
  const self = {
    api, rows: new Map(), token: "", facts: null, view: readAddress(), items: null, hits: [], errors: [], lost: "", active: null, shape: "",
    selected: kept.selected, collapsed: kept.collapsed, columns: [], fetching: false, again: false, unread: 0,
  };
  handlers(self);
  self.root = make("section", "sv-overview", ...makeBar(self), makeTable(self), makeEmpty(self));
  parent.append(self.root);
  self.resized = () => { self.cards = self.root.clientWidth < NARROW; self.root.classList.toggle("sv-cards", self.cards); arrange(self); };
  self.observer = new ResizeObserver(self.resized);
  self.observer.observe(self.root);
  self.scrolled = () => draw(self);
  self.wake = () => listen(self);
  self.slash = (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    event.preventDefault();
    self.search.focus();
  };
  document.addEventListener("scroll", self.scrolled, { capture: true, passive: true });
  addEventListener("resize", self.scrolled);
  document.addEventListener("visibilitychange", self.wake);
  document.addEventListener("keydown", self.slash);
  fetchRows(self);
  listen(self);
  return self;
}

function stop(self) {
  self.stopped = true;
  self.observer.disconnect();
  self.source?.close();
  self.source = null;
  document.removeEventListener("scroll", self.scrolled, { capture: true });
  removeEventListener("resize", self.scrolled);
  document.removeEventListener("visibilitychange", self.wake);
  document.removeEventListener("keydown", self.slash);
  self.root.remove();
}

export default function (api) {
  const element = api.parentElement;
  const self = lists.get(element) ?? start(element, api);
  lists.set(element, self);
  self.api = api;
  return () => {
    stop(self);
    lists.delete(element);
  };
}
