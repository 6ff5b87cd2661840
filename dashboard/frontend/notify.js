// The bell: notices as toasts on every open page, a list of the newest, and, when somebody switches it on, notifications of the browser.
// One tab of a browser holds the connection for all of them (a lock decides which) and passes on what comes, so that tabs in the
// background hear of it too and cost nothing. Where the browser knows no locks (http to another machine), each visible tab holds its own.
// Every text is set as text. data: { url: what to listen to, signOut: whether there is a way out, who: who is signed in }

const SIGNS = { ok: "✓", info: "i", warning: "!", alarm: "✕" };
const SHOWN = () => (globalThis.innerWidth < 600 ? 2 : 4);
const STAY_MS = 12000;
const LISTED = 20;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

function remembered(storage, key) {
  try { return Number(storage.getItem(key)) || 0; } catch { return 0; } // storage may be switched off
}

function remember(storage, key, value) {
  try { storage.setItem(key, String(value)); } catch { /* then a reload shows it again */ }
}

const when = (at) => `${new Date(at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC" })} UTC`;
const asks = () => "Notification" in globalThis && globalThis.isSecureContext;
const rings = () => asks() && Notification.permission === "granted" && remembered(localStorage, "seqset-ring") === 1;

class Bell {
  constructor() {
    this.api = null;
    this.message = { notices: [], last: 0, problems: [] };
    this.shown = remembered(sessionStorage, "seqset-shown"); // per tab: a reload shows nothing twice
    this.source = null;
    this.leads = false;
    this.channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("seqset-notices") : null;
    this.channel?.addEventListener("message", ({ data }) => {
      if (data === "anybody?") this.leads && this.met && this.channel.postMessage(this.message);
      else this.receive(data);
    });
    document.addEventListener("visibilitychange", () => this.sync());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.toggle(false));
    document.addEventListener("click", (event) => !this.root?.contains(event.target) && this.toggle(false));
  }

  mount(api) {
    this.api = api;
    if (!this.root?.isConnected) this.build();
    if (this.begun) return;
    this.begun = true;
    if (navigator.locks && this.channel) {
      navigator.locks.request("seqset-notices", () => { this.leads = true; this.sync(); return new Promise(() => {}); });
      this.channel.postMessage("anybody?");
    } else {
      this.alone = true;
      this.sync();
    }
  }

  sync() {
    const wanted = this.leads || (this.alone && !document.hidden);
    if (wanted && (!this.source || this.source.readyState === EventSource.CLOSED)) {
      this.source?.close();
      this.source = new EventSource(this.api.data.url);
      this.source.onmessage = (event) => {
        const message = JSON.parse(event.data);
        this.channel?.postMessage(message);
        this.receive(message);
      };
      this.source.onerror = () => { clearTimeout(this.again); this.again = setTimeout(() => this.lost(), 3000); };
    } else if (!wanted && this.source) {
      this.source.close();
      this.source = null;
    }
  }

  async lost() {
    this.sync();
    if (this.source?.readyState !== EventSource.CLOSED) return;
    const answer = await fetch("login", { method: "HEAD", redirect: "manual" }).catch(() => null);
    if (answer?.ok && this.api.data.signOut) location.reload(); // the session is over: the form says so
  }

  receive(message) {
    const first = !this.met && this.shown === 0;
    const fresh = first ? [] : message.notices.filter((notice) => notice.number > this.shown); // a page tells what comes after it was opened
    this.met = true;
    this.message = message;
    this.shown = Math.max(this.shown, message.last, 1);
    remember(sessionStorage, "seqset-shown", this.shown);
    fresh.slice(-SHOWN()).forEach((notice) => this.toast(notice));
    if ((this.leads || this.alone) && rings() && document.hidden) fresh.forEach((notice) => this.ring(notice));
    this.unread = (this.unread ?? 0) + fresh.length;
    this.draw();
  }

  ring(notice) {
    const shown = new Notification(`${notice.title}: ${notice.run}`, { body: notice.detail, tag: `seqset-${notice.number}` });
    shown.onclick = () => { globalThis.focus(); this.open(notice.run); };
  }

  open(run) {
    this.toggle(false);
    this.api.setTriggerValue("open", run);
  }

  link(notice) {
    const link = make("a", { href: `live?run=${encodeURIComponent(notice.run)}`, text: notice.run });
    link.addEventListener("click", (event) => {
      if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.open(notice.run);
    });
    return link;
  }

  entry(notice) {
    return make("div", { class: `sv-notice sv-${notice.severity}`, "data-notice": notice.number },
      make("span", { class: "sv-icon", "aria-hidden": "true", text: SIGNS[notice.severity] }),
      make("div", {},
        make("p", {}, make("strong", { text: notice.title })),
        make("p", { class: "sv-notice-run" }, this.link(notice)),
        notice.detail && make("p", { class: "sv-notice-detail", text: notice.detail, title: notice.detail }),
        make("p", { class: "sv-dim", text: `step ${notice.step.toLocaleString("en")} · ${when(notice.at)}` })));
  }

  toast(notice) {
    const toast = this.entry(notice);
    const close = make("button", { type: "button", class: "sv-notice-close", "aria-label": "Dismiss", text: "✕" });
    close.addEventListener("click", () => toast.remove());
    toast.append(close);
    (notice.severity === "alarm" ? this.urgent : this.polite).append(toast);
    while (this.stack.querySelectorAll(".sv-notice").length > SHOWN()) this.stack.querySelector(".sv-notice").remove();
    if (notice.severity === "alarm") return; // stays until somebody has seen it
    let timer = 0;
    const wait = () => { clearTimeout(timer); timer = setTimeout(() => toast.remove(), STAY_MS); };
    for (const name of ["mouseenter", "focusin"]) toast.addEventListener(name, () => clearTimeout(timer));
    for (const name of ["mouseleave", "focusout"]) toast.addEventListener(name, wait);
    wait();
  }

  build() {
    this.button = make("button", { type: "button", class: "sv-bell", "aria-haspopup": "dialog", "aria-expanded": "false" });
    this.button.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 16V11a6 6 0 0 1 12 0v5l1.5 2.5h-15zM10 21h4" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linejoin="round" stroke-linecap="round"/></svg>';
    this.dot = make("span", { class: "sv-bell-dot", hidden: "" });
    this.button.append(this.dot);
    this.button.addEventListener("click", () => this.toggle(this.panel.hidden));
    this.panel = make("section", { class: "sv-bell-panel", role: "dialog", "aria-label": "Notices", hidden: "" });
    this.polite = make("div", { role: "status", "aria-live": "polite" });
    this.urgent = make("div", { role: "alert", "aria-live": "assertive" });
    this.stack = make("div", { class: "sv-toasts" }, this.urgent, this.polite);
    this.root = make("div", { class: "sv-bell-root" }, this.button, this.panel, this.stack);
    (document.querySelector(".stApp") ?? document.body).append(this.root);
    this.draw();
  }

  toggle(open) {
    if (!this.panel || this.panel.hidden === !open) return;
    const inside = this.panel.contains(document.activeElement);
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) {
      this.unread = 0;
      this.stack.querySelectorAll(".sv-notice").forEach((toast) => toast.remove()); // they stand in the list
    }
    this.draw();
    if (!open && inside) this.button.focus();
  }

  draw() {
    const { notices, problems } = this.message;
    this.dot.hidden = !this.unread;
    this.dot.textContent = this.unread > 9 ? "9+" : String(this.unread ?? "");
    this.button.setAttribute("aria-label", this.unread ? `Notices, ${this.unread} new` : "Notices");
    if (this.panel.hidden) return;
    const about = "Verdicts, and runs that finish, fail, are interrupted or go silent, are told here.";
    this.panel.replaceChildren(...[
      make("h2", { text: "Notices" }),
      ...problems.map((problem) => make("p", { class: "sv-notice-problem sv-warning", text: `Not delivered: ${problem}` })),
      notices.length === 0 && make("p", { class: "sv-dim", text: `Nothing new since the dashboard first looked at this folder. ${about}` }),
      make("div", { class: "sv-bell-list" }, ...notices.slice(-LISTED).reverse().map((notice) => this.entry(notice))),
      this.choice(), this.account(),
    ].filter(Boolean));
  }

  choice() {
    const box = make("input", { type: "checkbox", role: "switch" });
    const refused = asks() && Notification.permission === "denied";
    box.checked = rings();
    box.disabled = !asks() || refused;
    const why = !asks() ? "Only over https or on this machine itself." : refused ? "This browser was told not to; allow it in the site's settings."
      : "Shown by this browser while the dashboard is in the background.";
    box.addEventListener("change", async () => {
      if (box.checked && Notification.permission !== "granted") await Notification.requestPermission();
      remember(localStorage, "seqset-ring", box.checked && Notification.permission === "granted" ? 1 : 0);
      this.draw();
    });
    return make("label", { class: "sv-bell-choice" }, box, make("span", {}, "Browser notifications", make("small", { class: "sv-dim", text: why })));
  }

  account() {
    const { signOut, who } = this.api.data;
    if (!signOut) return null;
    return make("p", { class: "sv-bell-account" }, who ? make("span", { class: "sv-dim", text: who }) : "", make("a", { href: "logout", target: "_self", text: "Sign out" }));
  }
}

export default function (api) {
  (globalThis.seqsetBell ??= new Bell()).mount(api);
}
