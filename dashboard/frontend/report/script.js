// Draws the figures of a saved comparison, sorts its tables, and lets one run stand out when its entry in the legend is pointed at.
(async () => {
  const plots = [...document.querySelectorAll(".sv-plot")];
  const config = {
    displaylogo: false, responsive: true, displayModeBar: "hover",
    modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
    modeBarButtonsToAdd: savingButtons(),
  };
  for (const [at, plot] of plots.entries()) {
    if (FIGURES[at].layout.dragmode === "select") FIGURES[at].layout.dragmode = false; // there is nobody to tell what was caught
    plot.style.height = `${FIGURES[at].layout.height}px`;
    await Plotly.newPlot(plot, FIGURES[at].data, FIGURES[at].layout, config);
    await new Promise((next) => setTimeout(next));
  }
  document.body.dataset.drawn = plots.length;

  const highlight = (label) => {
    for (const plot of plots) {
      plot.querySelectorAll(".scatterlayer .trace").forEach((trace) => {
        const of = trace.__data__?.[0]?.trace?.meta;
        trace.style.opacity = label === null || of === label ? "" : "0.08";
      });
    }
  };
  for (const entry of document.querySelectorAll("[data-legend]")) {
    for (const on of ["pointerenter", "focus"]) entry.addEventListener(on, () => highlight(entry.dataset.legend));
    for (const off of ["pointerleave", "blur"]) entry.addEventListener(off, () => highlight(null));
  }

  for (const head of document.querySelectorAll(".sv-sortable th")) {
    head.tabIndex = 0;
    const sort = () => {
      const body = head.closest("table").tBodies[0];
      const down = head.ariaSort !== "descending";
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
      const compare = (a, b) => (isNaN(value(a)) || isNaN(value(b)) ? value(a).localeCompare(value(b)) : value(a) - value(b));
      const known = [...body.rows].filter((row) => value(row) !== "");
      const rest = [...body.rows].filter((row) => value(row) === "");
      known.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      body.append(...known, ...rest);
      head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  }
})();
