// Puts pushed figures on the page, reruns the fragment around it when the server announces something else that is new, and
// opens links to runs without a page load. One EventSource per page and address, whatever the number of fragments: browsers
// allow only six per server.
// data: { url: what to listen to, watch: which part of a message, seen: its value as drawn, every: least ms between redraws,
//         onlyVisible, links }

// Of fragments that ask at once Streamlit may leave some out: one has the turn until it has been redrawn, or has waited in vain.
const turn = (globalThis.seqsetTurn ??= { holder: null, until: 0 });
const PATIENCE = 2000;
const queue = (globalThis.seqsetQueue ??= { cards: new Set(), busy: false, spent: 0 });
// Charts may take a twentieth of the time: what the last round of drawing cost sets the pause, so a slow machine draws less often.
const rest = () => Math.min(20 * queue.spent, 15000) + (queue.busy ? 500 : 0);
const streams = (globalThis.seqsetStreams ??= new Map());

function write(numbers) {
  for (const [name, text] of Object.entries(numbers)) {
    const shown = document.querySelector(`[data-metric="${name}"]`);
    if (shown && shown.textContent !== text) shown.textContent = text;
  }
  const bar = document.querySelector('[data-width="progress"] > span');
  if (bar && numbers.progress) bar.style.width = numbers.progress;
}

function stream(url) {
  if (streams.has(url)) return streams.get(url);
  const self = { message: {}, listeners: new Set(), source: null };
  self.sync = () => {
    const wanted = self.listeners.size > 0 && !document.hidden;
    if (wanted && (!self.source || self.source.readyState === EventSource.CLOSED)) {
      self.source?.close();
      self.source = new EventSource(url);
      self.source.onmessage = (event) => {
        self.message = JSON.parse(event.data);
        write(self.message.numbers ?? {});
        self.listeners.forEach((listener) => listener());
      };
      self.source.onerror = () => setTimeout(self.sync, 3000);
    } else if (!wanted && self.source) {
      self.source.close(); // a hidden tab costs the server nothing; it catches up when it is looked at
      self.source = null;
    }
  };
  self.leave = (listener) => {
    self.listeners.delete(listener);
    self.sync();
    if (self.listeners.size) return;
    document.removeEventListener("visibilitychange", self.sync); // a tab that is kept open sees many runs
    if (streams.get(url) === self) streams.delete(url);
  };
  document.addEventListener("visibilitychange", self.sync);
  streams.set(url, self);
  return self;
}

function start(element, api) {
  const self = { api, asked: null, askedAt: 0, timer: 0, inView: !api.data.onlyVisible, source: stream(api.data.url) };
  self.consider = () => {
    const { watch, seen, every, onlyVisible } = self.api.data;
    const news = self.source.message[watch];
    const now = performance.now();
    clearTimeout(self.timer);
    if (turn.holder === self && news === seen) turn.holder = null;
    if (!self.inView || document.hidden || news === undefined || news === seen) return;
    const asked = self.asked === news && now - self.askedAt < PATIENCE;
    const taken = turn.holder !== null && turn.holder !== self && now < turn.until;
    const due = self.askedAt + Math.max(every, onlyVisible ? rest() : 0) - now;
    if (asked || taken || due > 0) {
      self.timer = setTimeout(self.consider, asked ? PATIENCE : Math.max(due, taken ? 25 : 0));
      return;
    }
    Object.assign(turn, { holder: self, until: now + PATIENCE });
    self.asked = news;
    self.askedAt = now;
    if (onlyVisible) queue.spent = 0;
    self.api.setTriggerValue("revision", String(news));
    self.timer = setTimeout(self.consider, PATIENCE); // a busy server may have dropped it, and there may be no further message
  };
  self.observer = new IntersectionObserver(
    (entries) => { self.inView = entries.at(-1).isIntersecting; self.consider(); },
    { rootMargin: "900px 0px 100px 0px", scrollMargin: "900px 0px 100px 0px" },
  );
  if (api.data.onlyVisible) self.observer.observe(element);
  self.open = (event) => {
    const link = event.target.closest?.("a[data-run]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    self.api.setTriggerValue("open", link.dataset.run);
  };
  if (api.data.links) document.addEventListener("click", self.open);
  document.addEventListener("visibilitychange", self.consider);
  self.source.listeners.add(self.consider);
  self.source.sync();
  self.stop = () => {
    clearTimeout(self.timer);
    if (turn.holder === self) turn.holder = null;
    self.observer.disconnect();
    document.removeEventListener("click", self.open);
    document.removeEventListener("visibilitychange", self.consider);
    self.source.leave(self.consider);
  };
  return self;
}

const running = (globalThis.seqsetPush ??= new WeakMap());

export default function (api) {
  const element = api.parentElement.host ?? api.parentElement;
  let self = running.get(element);
  if (self && self.api.data.url !== api.data.url) {
    self.stop();
    self = undefined;
  }
  if (!self) {
    self = start(element, api);
    running.set(element, self);
  }
  self.api = api;
  self.consider();
  return () => {
    self.stop();
    running.delete(element);
  };
}
