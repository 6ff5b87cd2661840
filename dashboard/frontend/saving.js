// Buttons of a chart that save it as a picture with its title, its legend and a background. For the pages and for saved reports.

const savingButtons = () => ["png", "svg"].map((format) => ({
  name: `Save as ${format.toUpperCase()}`,
  icon: { width: 34, height: 24, path: SAVING_LETTERS[format] },
  click: (plot) => {
    const card = plot.closest(".sv-card");
    const title = card.querySelector("h3").firstChild.textContent;
    const curves = plot.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    const layout = {
      ...plot.layout, paper_bgcolor: getComputedStyle(card).backgroundColor, showlegend: curves > 1,
      title: { text: title.replaceAll("<", "&lt;"), x: 0.01, font: { size: 15 } }, margin: { ...plot.layout.margin, t: 48 + Math.max(plot.layout.margin.t - 16, 0) },
      legend: { ...plot.layout.legend, orientation: "v", x: 1.02, xanchor: "left", y: 1, yanchor: "top" },
    };
    const size = { width: 1000, height: Math.max(480, 90 + 20 * curves), scale: format === "png" ? 2 : 1 };
    globalThis.Plotly.downloadImage({ data: plot.data, layout, config: {} }, { format, filename: title, ...size });
  },
}));

// "PNG" and "SVG" in strokes 3 wide: plotly.js has no icon that tells one from the other.
const SAVING_LETTERS = {
  png: "M1 20V4h7v9H4v7zM4 7v3h1V7zM11 20V4h3l4 8V4h3v16h-3l-4-8v8zM24 20V4h9v3h-6v10h3v-4h-1v-3h4v10z",
  svg: "M1 4h8v3H4v3h5v10H1v-3h5v-4H1zM11 4h3l2 10 2-10h3l-4 16h-2zM24 20V4h9v3h-6v10h3v-4h-1v-3h4v10z",
};
