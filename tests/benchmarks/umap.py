"""The latent map of 10,000 sets x 128 dimensions in a real page: by PCA, by UMAP made beside the dashboard, and from what is kept.

python -m tests.benchmarks umap

One run with one snapshot, in real headless Chromium. `pca_s`: from choosing the run in an open page to its points drawn by PCA.
`umap_s`: from the click on UMAP to its points drawn, the start of the process and the compilation of umap-learn's functions
included, with nothing of numba kept from before; `progress_seen` counts the different shares that the page showed meanwhile.
`cached_s`: back to PCA and to UMAP again, from the click to the points drawn. Timed inside the page.
"""

import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.benchmarks.harness import parser_of, report
from tests.browser.driving import chromium, dashboard, open_page
from tests.latent_runs import latent_run, make_latents

SETS_OF_A_STAY = 10
WATCH = """() => {
  window.shares = new Set();
  window.drawn = new Map();
  const look = () => {
    const share = document.querySelector('.sv-umap strong')?.textContent;
    if (share) window.shares.add(share);
    const card = document.querySelector('[data-chart=latent-map]');
    const points = card?.querySelectorAll('.scatterlayer path.point').length;
    const revision = card?.querySelector('.sv-plot')?.dataset.revision;
    if (points && revision && !window.drawn.has(revision)) {
      window.drawn.set(revision, [performance.now(), card.querySelector('h3').textContent, card.querySelector('header span').textContent]);
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
"""Notes in each frame what stands on the page: shares of the progress bar, and when each picture's points were there."""


def choose(page: Page, text: str, then: str) -> float:
    """Click on what has that `text`; seconds until a map is drawn whose title begins with `then`."""
    page.evaluate("window.drawn.clear()")
    button = page.get_by_text(text, exact=True).first
    button.evaluate(
        "element => element.addEventListener('click', () => { window.clicked = performance.now(); }, { once: true, capture: true })"
    )
    shown = page.locator("[data-chart=latent-map] .sv-plot").get_attribute("data-revision")
    button.click()
    return drawn(page, then, shown)


def drawn(page: Page, then: str, before: str | None) -> float:
    """Seconds from `window.clicked` to a map of that title that is another one than `before`."""
    found = page.wait_for_function(
        """([title, before]) => {
          for (const [revision, [at, heading]] of window.drawn) {
            if (revision !== before && heading.startsWith(title)) return at - window.clicked;
          }
        }""",
        arg=[then, before], timeout=180_000,
    )  # fmt: skip
    return float(found.json_value()) / 1000


def measure(sets: int, dims: int, rounds: int) -> tuple[list[dict[str, object]], dict[str, object]]:
    """All three, in one browser."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        runs.mkdir()
        latent_run(runs, "small", steps=(1,), stays=40, dims=8)
        for number in range(rounds):
            make_latents(
                latent_run(runs, f"large-{number}", steps=(1,), stays=10),
                (1,),
                stays=sets // SETS_OF_A_STAY,
                sets=SETS_OF_A_STAY,
                dims=dims,
            )
        with dashboard(runs, env={"NUMBA_CACHE_DIR": str(Path(folder) / "numba")}) as address, chromium() as browser:
            page = open_page(browser, f"{address}/latent?run=small")
            page.wait_for_selector("[data-chart=latent-map] .scatterlayer path.point", timeout=60_000)
            page.evaluate(WATCH)
            pca = [first_picture(page, f"large-{number}") for number in range(rounds)]
            page.evaluate("window.shares.clear()")
            umap = choose(page, "UMAP", "UMAP")
            shares = int(page.evaluate("window.shares.size"))
            cached = []
            for _ in range(max(rounds, 3)):
                cached += [choose(page, "PCA", "PCA"), choose(page, "UMAP", "UMAP")]
    rows: list[dict[str, object]] = [
        {"picture": "PCA, a run just chosen", "median_s": statistics.median(pca), "slowest_s": max(pca), "times": len(pca)},
        {"picture": f"UMAP, made ({shares} shares of progress seen)", "median_s": umap, "slowest_s": umap, "times": 1},
        {"picture": "kept from before", "median_s": statistics.median(cached), "slowest_s": max(cached), "times": len(cached)},
    ]
    figures: dict[str, object] = {
        "pca_s": round(statistics.median(pca), 3), "umap_s": round(umap, 2), "cached_s": round(statistics.median(cached), 3),
        "progress_seen": shares, "sets": sets, "dims": dims,
    }  # fmt: skip
    return rows, figures


def first_picture(page: Page, run: str) -> float:
    """Choose a run nobody has looked at."""
    before = page.locator("[data-chart=latent-map] .sv-plot").get_attribute("data-revision")
    page.evaluate("window.drawn.clear()")
    page.get_by_role("combobox", name="Run", exact=False).first.click()
    option = page.get_by_role("option", name=run, exact=True)
    option.evaluate(
        "element => element.addEventListener('pointerdown', () => { window.clicked = performance.now(); }, { once: true, capture: true })"
    )
    option.click()
    return drawn(page, "PCA", before)


def main(argv: list[str]) -> None:
    """Run the benchmark and report."""
    parser = parser_of("umap", __doc__)
    parser.add_argument("--sets", type=int, default=10_000, help="latents [10,000]")
    parser.add_argument("--dims", type=int, default=128, help="latent dimensions [128]")
    parser.add_argument("--rounds", type=int, default=3, help="runs chosen, one after the other [3]")
    args = parser.parse_args(argv)
    report("umap", *measure(args.sets, args.dims, args.rounds))
