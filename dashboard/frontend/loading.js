// plotly.js, fetched once a page, by whichever component of it comes first.
function load(url) {
  return (globalThis.seqsetPlotly ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: url, onload: () => resolve(globalThis.Plotly) });
    script.onerror = () => { globalThis.seqsetPlotly = undefined; reject(new Error("plotly.js did not load")); };
    document.head.append(script);
  }));
}
