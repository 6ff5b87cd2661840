// Stands in the document of every page, in front of Streamlit's scripts. They learn here where the server is, and so connect without
// asking for its health first at two addresses (but where somebody signs in: the answer to that sets the cookie without which Streamlit
// does not believe a connection who it comes from); and plotly.js is started while the server still draws the first charts.
const base = new URL(location.pathname.replace(/[^/]*$/, ""), location.origin).href;
const { cookie, plotly } = document.currentScript.dataset;
if (!cookie || document.cookie.includes(`${cookie}=`)) window.__streamlit = {
  BACKEND_BASE_URL: base,
  HOST_CONFIG: { allowedOrigins: [location.origin], useExternalAuthToken: false, enableCustomParentMessages: false },
};
if (plotly) {
  const url = new URL(plotly, base).href;
  const fetched = new Promise((resolve, reject) => {
    addEventListener("load", () => requestIdleCallback(() => {
      const script = Object.assign(document.createElement("script"), { src: url, onload: () => resolve(globalThis.Plotly), onerror: () => { globalThis.seqsetPlotly.delete(url); reject(new Error("plotly.js did not load")); } });
      document.head.append(script);
    }, { timeout: 1000 }));
  });
  globalThis.seqsetPlotly = new Map([[url, fetched]]);
}
