// loading.js stands in front of this. Pointing at an entry of the legend (or reaching it with the keyboard) lets the other runs step back in all charts of the page.

function highlight(label) {
  for (const trace of document.querySelectorAll(".sv-plot .scatterlayer .trace")) {
    const of = trace.__data__?.[0]?.trace?.meta;
    trace.style.opacity = label === null || of === label ? "" : "0.08";
  }
}

const entry = (event) => event.target.closest?.("[data-legend]") ?? null;
let shown = null;

function point(event) {
  const at = entry(event)?.dataset.legend ?? null;
  if (at === shown) return;
  shown = at;
  highlight(at);
}

function leave(event) {
  if (entry(event) && shown !== null) highlight(shown = null);
}

export default function ({ data: [data] }) {
  plotlyFor(data.plotly, []).catch(() => undefined); // a chart that needs it tries again and says so
  document.addEventListener("pointerover", point);
  document.addEventListener("focusin", point);
  document.addEventListener("focusout", leave);
  return () => {
    document.removeEventListener("pointerover", point);
    document.removeEventListener("focusin", point);
    document.removeEventListener("focusout", leave);
  };
}
