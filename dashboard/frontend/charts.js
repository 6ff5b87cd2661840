// Draws a grid of chart cards. Unlike st.plotly_chart it updates a chart in place (Plotly.react), so zoom is kept and nothing
// flickers; it draws only what changed, only what is near the screen, and one chart per frame, so numbers stay quick.
// data: { plotly: { small, whole }, columns, cards: [{ key, title, newest, help, revision, figure: JSON, pick, link, window }] }; every text is set as
// text.
// A card with `pick` reports the customdata of points that are clicked, or caught with lasso or box, as trigger "picked".
// loading.js, saving.js and linking.js stand in front of this.

const BUTTONS = ["zoomIn2d", "zoomOut2d", "autoScale2d"];
const CONFIG = {
  displaylogo: false, responsive: true, displayModeBar: matchMedia("(pointer: coarse)").matches ? false : "hover", modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", ...BUTTONS],
  modeBarButtonsToAdd: savingButtons(),
};
const PICKING = { ...CONFIG, modeBarButtonsToRemove: ["toImage", ...BUTTONS] };
const MOST_PICKED = 5000;
const boards = (globalThis.seqsetBoards ??= new WeakMap());
const queue = (globalThis.seqsetQueue ??= { cards: new Set(), busy: false, spent: 0 });

async function drain() {
  if (queue.busy) return;
  queue.busy = true;
  try {
    while (queue.cards.size) {
      const card = [...queue.cards].find((one) => one.seen) ?? queue.cards.values().next().value;
      queue.cards.delete(card);
      if (!due(card) || !card.plot.isConnected) continue;
      const { data, layout } = JSON.parse(card.data.figure);
      const plotly = await buildOf(card, data);
      if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
      card.drawn = card.data.revision;
      const began = performance.now();
      card.plot.style.height = `${layout.height}px`;
      await zoomed(card, data, layout);
      await plotly.react(card.plot, data, layout, card.data.pick ? PICKING : CONFIG);
      if (card.data.pick && !card.reports) {
        card.reports = true;
        for (const [event, how] of [["plotly_selected", "area"], ["plotly_click", "click"]]) {
          card.plot.on(event, (caught) => pick(card, how, caught?.points ?? []));
        }
      }
      if (card.data.link && !card.linked) {
        card.linked = true;
        card.plot.on("plotly_relayout", (change) => onRelayout(card, change, want));
        linkCrosshair(card);
      }
      card.plot.dataset.revision = card.drawn;
      card.plot.dataset.shown = JSON.stringify(card.shown);
      await new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
      queue.spent += performance.now() - began;
    }
  } finally {
    queue.busy = false;
  }
}

// The first picture is made a screen ahead; redrawing waits until somebody can see it.
const due = (card) => (card.seen || (card.near && card.drawn === null)) && card.drawn !== card.data.revision;

function want(card) {
  if (!due(card)) return;
  queue.cards.add(card);
  drain().catch((error) => { card.plot.textContent = `${error.message}; reload the page`; });
}

// A chart stays with the build that drew it, as long as that knows its kind.
async function buildOf(card, data) {
  if (card.plotly && data.every((trace) => SMALL.has(trace.type ?? "scatter"))) return card.plotly;
  const plotly = await plotlyFor(card.board.urls, data);
  if (card.plotly && card.plotly !== plotly) card.plotly.purge(card.plot);
  card.plotly = plotly;
  return plotly;
}

function pick(card, how, points) {
  const picked = points.map((point) => point.customdata).filter((datum) => datum !== undefined).slice(0, MOST_PICKED);
  card.board.api.setTriggerValue("picked", { card: card.data.key, how, points: picked });
}

function element(name, cls, parent) {
  const made = document.createElement(name);
  made.className = cls;
  parent.append(made);
  return made;
}

function makeCard(board, key) {
  const root = element("article", "sv-card", board.grid);
  root.dataset.chart = key;
  const head = element("header", "sv-card-head", root);
  const card = { title: element("h3", "", head), newest: element("span", "sv-dim", head), drawn: null, near: false, seen: false, board };
  const help = element("button", "sv-help", head);
  help.type = "button";
  help.textContent = "?";
  help.ariaLabel = "How to read this chart";
  card.help = element("p", "sv-tip", head);
  card.help.id = `help-${key}`;
  help.setAttribute("aria-describedby", card.help.id);
  card.plot = element("div", "sv-plot", root);
  card.plot.role = "img";
  card.sizes = new ResizeObserver(() => { // Plotly itself looks at the window alone
    const width = card.plot._fullLayout?.width;
    if (card.plot.clientWidth && width && Math.abs(width - card.plot.clientWidth) > 1) card.plotly.Plots.resize(card.plot);
  });
  card.sizes.observe(card.plot);
  card.cross = element("i", "sv-cross", card.plot.parentElement);
  card.cross.hidden = true;
  card.observers = [["near", "900px 0px"], ["seen", "50px 0px"]].map(([flag, margin]) => {
    const observer = new IntersectionObserver(
      (entries) => { card[flag] = entries.at(-1).isIntersecting; want(card); },
      { rootMargin: margin, scrollMargin: margin }, // the page scrolls inside an element of Streamlit's
    );
    observer.observe(card.plot);
    return observer;
  });
  return card;
}

export default function (api) {
  const { data: [data], parentElement } = api;
  let board = boards.get(parentElement);
  if (!board) {
    board = { grid: element("div", "sv-grid", parentElement), cards: new Map(), urls: data.plotly };
    boards.set(parentElement, board);
    plotlyFor(board.urls, []).catch(() => undefined); // the script is large: fetch it while the rest of the page is built
  }
  board.api = api;
  board.grid.style.setProperty("--columns", data.columns);
  for (const one of data.cards) {
    if (!board.cards.has(one.key)) board.cards.set(one.key, makeCard(board, one.key));
    const card = board.cards.get(one.key);
    if (card.data?.link !== one.link) unlink(card);
    card.data = one;
    card.title.textContent = one.title;
    card.newest.textContent = one.newest;
    card.help.textContent = one.help;
    card.plot.ariaLabel = `${one.title}; ${one.newest}`;
    want(card);
  }
  return () => {
    for (const card of board.cards.values()) {
      [...card.observers, card.sizes].forEach((observer) => observer.disconnect());
      card.near = card.seen = false;
      queue.cards.delete(card);
      unlink(card);
      card.plotly?.purge(card.plot);
    }
    board.grid.remove();
    boards.delete(parentElement);
  };
}
