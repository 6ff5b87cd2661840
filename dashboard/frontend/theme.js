// Reruns the page when it is shown in another theme than its charts were made for: the browser's has changed, or another was chosen
// in the menu. Styles follow by themselves; pictures do not. A hidden tab waits until it is looked at.
// data: { dark: whether the server made this page for the dark theme }

const themes = (globalThis.seqsetThemes ??= new WeakMap());

function start(element, api) {
  const self = { api, asked: null };
  const app = document.querySelector(".stApp");
  self.consider = () => {
    const dark = getComputedStyle(app).colorScheme === "dark";
    if (dark === self.api.data.dark) self.asked = null;
    else if (!document.hidden && dark !== self.asked) {
      self.asked = dark; // once: if the server does not follow, asking again would go round in circles
      self.api.setTriggerValue("shown", dark ? "dark" : "light");
    }
  };
  self.observer = new MutationObserver(self.consider); // Streamlit changes the class with the theme
  self.observer.observe(app, { attributes: true, attributeFilter: ["class"] });
  document.addEventListener("visibilitychange", self.consider);
  self.stop = () => {
    self.observer.disconnect();
    document.removeEventListener("visibilitychange", self.consider);
    themes.delete(element);
  };
  return self;
}

export default function (api) {
  const element = api.parentElement.host ?? api.parentElement;
  if (!themes.has(element)) themes.set(element, start(element, api));
  const self = themes.get(element);
  self.api = api;
  self.consider();
  return self.stop;
}
