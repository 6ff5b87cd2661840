// Charts of one run move together: what is zoomed in one is zoomed in all, at the resolution of that part, and a crosshair in one
// shows the values of all. charts.js calls these; a card takes part when its data has `link` (who moves together) and `window`
// (address of the part, see dashboard/live/windows.py).

const linkGroups = (globalThis.seqsetLinks ??= new Map());

function linkOf(card) {
  const name = card.data.link;
  if (!name) return null;
  if (!linkGroups.has(name)) linkGroups.set(name, { range: null, cards: new Set(), at: null });
  const group = linkGroups.get(name);
  group.cards.add(card);
  return group;
}

function unlink(card) {
  for (const [name, group] of linkGroups) {
    group.cards.delete(card);
    if (!group.cards.size) linkGroups.delete(name);
  }
}

// Dates of an axis are texts in UTC without saying so; numbers of dates are milliseconds.
const place = (value) => (typeof value === "number" ? value : Number.isNaN(Number(value)) ? Date.parse(`${value.replace(" ", "T")}Z`) : Number(value));

// The curves of a figure between `range`, put in place of the whole ones. Each trace says in `meta` what it is, or, where charts hold
// several runs, the card does in `curves`, one for each trace (dashboard/compare/parts.py).
async function refine(card, data, range) {
  const [word, names] = card.data.curves ? ["curve", card.data.curves] : ["metric", data.map((trace) => trace.meta)];
  const wanted = names.map((name, index) => [name, index]).filter(([name]) => typeof name === "string");
  if (!card.data.window || !wanted.length) return;
  const [from, to] = range.map(place);
  const asked = new URLSearchParams([...wanted.map(([name]) => [word, name]), ["from", Math.min(from, to)], ["to", Math.max(from, to)]]);
  const response = await fetch(`${new URL(card.data.window, document.baseURI)}&${asked}`);
  if (!response.ok) throw new Error(await response.text());
  const found = await response.json();
  found.forEach((curve, place) => Object.assign(data[wanted[place][1]], curve));
}

// What a figure is drawn with: the range of its group, and the curves of that range. A failed request leaves the coarse curves.
async function zoomed(card, data, layout) {
  const range = linkOf(card)?.range;
  card.shown = range ?? null;
  if (!range) return;
  Object.assign(layout.xaxis, { range: [...range], autorange: false });
  await refine(card, data, range).catch((error) => { card.newest.textContent = `coarse: ${error.message}`; });
}

function onRelayout(card, change, redraw) {
  const group = linkOf(card);
  if (!group) return;
  let range = null;
  if (change["xaxis.range[0]"] !== undefined) range = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
  else if (Array.isArray(change["xaxis.range"])) range = change["xaxis.range"];
  else if (!change["xaxis.autorange"]) return;
  group.range = range;
  for (const one of group.cards) {
    one.drawn = null;
    redraw(one);
  }
}

// --- crosshair

const asNumber = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

function nearest(trace, x) {
  const places = trace.x;
  let low = 0, high = places.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (place(places[middle]) < x) low = middle + 1; else high = middle;
  }
  if (low > 0 && x - place(places[low - 1]) < place(places[low]) - x) low -= 1;
  return trace.y[low];
}

function crosshair(card, at) {
  const axis = card.plot._fullLayout?.xaxis;
  const here = at === null || !axis?.d2p ? NaN : axis.d2p(at);
  const inside = here >= 0 && here <= axis?._length;
  card.cross.hidden = !inside;
  if (!inside) {
    card.newest.textContent = card.data.newest;
    return;
  }
  const { _offset: top, _length: height } = card.plot._fullLayout.yaxis;
  Object.assign(card.cross.style, { left: `${card.plot.offsetLeft + axis._offset + here}px`, top: `${card.plot.offsetTop + top}px`, height: `${height}px` });
  const curves = card.plot._fullData.filter((trace) => trace.type === "scatter" && trace.visible === true && trace.x?.length && trace.hoverinfo !== "skip");
  const values = curves.map((trace) => [trace.name, nearest(trace, place(at))]).filter(([, value]) => Number.isFinite(value));
  card.newest.textContent = values.map(([name, value]) => `${name} ${asNumber.format(value)}`).join(" · ");
}

function linkCrosshair(card) {
  const tell = (at) => {
    const group = linkOf(card);
    if (!group || group.at === at) return;
    group.at = at;
    requestAnimationFrame(() => {
      if (group.at !== at) return;
      for (const one of group.cards) if (one.seen && one.drawn !== null) crosshair(one, one === card ? null : at);
    });
  };
  card.plot.on("plotly_hover", (event) => tell(event.points[0].x));
  card.plot.on("plotly_unhover", () => tell(null));
}
