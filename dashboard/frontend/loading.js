// plotly.js, each build of it fetched once a page. The small one knows lines and bars and starts in a quarter of the time, so it
// draws what a page shows first; the whole one comes when a chart of another kind does, and then serves all new charts.
const SMALL = new Set(["scatter", "bar", "pie"]);
const builds = (globalThis.seqsetPlotly ??= new Map());

function load(address) {
  const url = new URL(address, document.baseURI).href;
  if (!builds.has(url)) {
    builds.set(url, new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement("script"), { src: url, onload: () => resolve(globalThis.Plotly) });
      script.onerror = () => { builds.delete(url); reject(new Error("plotly.js did not load")); };
      document.head.append(script);
    }));
  }
  return builds.get(url);
}

// The build for some traces; `urls` are the addresses of the small and the whole one.
function plotlyFor(urls, data) {
  const whole = new URL(urls.whole, document.baseURI).href;
  return load(builds.has(whole) || data.some((trace) => !SMALL.has(trace.type ?? "scatter")) ? urls.whole : urls.small);
}
