// Reruns the fragment around it when the server announces a new revision, and opens links to runs without a page load.
// One EventSource per page and address, whatever the number of fragments: browsers allow only six per server.
// data: { url: what to listen to, seen: the revision just drawn, every: least ms between redraws, onlyVisible: bool }

const streams = (globalThis.seqsetStreams ??= new Map());

function stream(url) {
  if (streams.has(url)) return streams.get(url);
  const self = { revision: 0, listeners: new Set(), source: null };
  self.sync = () => {
    const wanted = self.listeners.size > 0 && !document.hidden;
    if (wanted && (!self.source || self.source.readyState === EventSource.CLOSED)) {
      self.source?.close();
      self.source = new EventSource(url);
      self.source.onmessage = (event) => {
        self.revision = Number(event.data);
        self.listeners.forEach((listener) => listener());
      };
      self.source.onerror = () => setTimeout(self.sync, 3000);
    } else if (!wanted && self.source) {
      self.source.close(); // a hidden tab costs the server nothing; it catches up when it is looked at
      self.source = null;
    }
  };
  document.addEventListener("visibilitychange", self.sync);
  streams.set(url, self);
  return self;
}

function start(element, api) {
  const self = { api, asked: 0, askedAt: 0, cost: 0, timer: 0, inView: !api.data.onlyVisible, source: stream(api.data.url) };
  self.consider = () => {
    const { seen, every } = self.api.data;
    const now = performance.now();
    if (!self.inView || document.hidden || self.source.revision <= seen) return;
    const waiting = self.asked > seen && now - self.askedAt < 5000;
    const due = self.askedAt + Math.max(every, 3 * self.cost) - now;
    clearTimeout(self.timer);
    if (waiting || due > 0) {
      self.timer = setTimeout(self.consider, waiting ? 5000 : due);
      return;
    }
    self.asked = self.source.revision;
    self.askedAt = now;
    self.api.setTriggerValue("revision", self.asked);
  };
  self.drawn = () => {
    // What the last redraw cost this page, painting included, sets the pace of the next: a slow machine redraws less often.
    if (self.api.data.seen < self.asked) return;
    const { askedAt } = self;
    requestAnimationFrame(() => setTimeout(() => { self.cost = Math.min(performance.now() - askedAt, 5000); self.consider(); }));
  };
  self.observer = new IntersectionObserver(
    (entries) => { self.inView = entries.at(-1).isIntersecting; self.consider(); },
    { rootMargin: "900px 0px 300px 0px" },
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
    self.observer.disconnect();
    document.removeEventListener("click", self.open);
    document.removeEventListener("visibilitychange", self.consider);
    self.source.listeners.delete(self.consider);
    self.source.sync();
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
  self.drawn();
  self.consider();
  return () => {
    self.stop();
    running.delete(element);
  };
}
