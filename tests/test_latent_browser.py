"""The Latent space page in a real Chromium: from PCA to UMAP made beside the dashboard, lasso, patients, states, every state."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from shared.embedding import read_embedding
from shared.layout import RunLayout
from shared.schema import RunState
from tests.browser.driving import open_tab, theme
from tests.browser.looking import NEEDS_CHROMIUM, TABLES, check, place
from tests.latent_runs import latent_run, write_snapshot
from tests.run_factory import make_run

pytestmark = NEEDS_CHROMIUM
MAP = "[data-chart=latent-map]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    latent_run(folder, "parting", width=8)
    latent_run(folder, "few", steps=(100,), stays=4)
    make_run(folder, "nothing-yet", steps=20, state=RunState.RUNNING)
    broken = latent_run(folder, "broken", steps=(100, 200))
    broken.latents(200).write_bytes(b"PAR1")
    return folder


def title(page: Page, text: str, patience_s: float = 30) -> None:
    """Wait for the map of that title, with its points."""
    expect(page.locator(f"{MAP} h3")).to_contain_text(text, timeout=1000 * patience_s)
    page.wait_for_selector(f"{MAP} .scatterlayer path.point")


def lasso(page: Page) -> None:
    """Around most of the map: where its clusters lie is up to UMAP."""
    box = place(page.locator(f"{MAP} .nsewdrag").first)
    x, y, wide, high = box["x"] + box["width"] * 0.05, box["y"] + box["height"] * 0.05, box["width"] * 0.9, box["height"] * 0.9
    page.mouse.move(x, y)
    page.mouse.down()
    for corner in ((x + wide, y), (x + wide, y + high), (x, y + high), (x, y)):
        page.mouse.move(*corner, steps=3)
    page.mouse.up()


def test_from_pca_to_umap_and_to_patients(browser: Browser, address: str, runs: Path) -> None:
    page = open_tab(browser, f"{address}/latent?run=parting")
    page.set_viewport_size({"width": 1440, "height": 1500})
    title(page, "PCA of latents, by in hospital mortality")
    expect(page.locator(".sv-map-note")).to_contain_text("300 sets of 60 patients")
    page.get_by_text("UMAP", exact=True).first.click()
    expect(page.locator(".sv-umap [role=progressbar]")).to_be_visible()
    assert page.locator(f"{MAP} h3").text_content().startswith("PCA"), "PCA stays until UMAP is there"
    title(page, "UMAP of latents", 240)
    expect(page.locator(f"{MAP} .xtitle")).to_contain_text("UMAP")  # drawn: till then the points are PCA's
    expect(page.locator(".sv-map-note")).to_contain_text("nearest neighbours")
    layout = RunLayout(runs / "parting")
    assert 300 in read_embedding(layout.umap("latents")).frames
    lasso(page)
    area = page.locator(".sv-section", has_text="In the area")
    expect(area).to_be_visible()
    page.get_by_role("button", name="Follow the first 3").click()
    expect(page.locator("[data-chart=latent-time] .main-svg").first).to_be_visible()
    page.wait_for_function("location.search.split('patient=').length === 4")
    check(page, "latent-umap-1440-light", but=TABLES, full_page=True)
    assert page.locator(f"{MAP} .selectionlayer path").count() > 0
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(area).to_have_count(0)
    expect(page.locator(f"{MAP} .selectionlayer path")).to_have_count(0)
    seen = page.url
    page.goto("about:blank")
    page.goto(seen)
    title(page, "UMAP of latents")
    expect(page.locator("[data-chart=latent-time] .main-svg").first).to_be_visible()
    page.close()


def test_a_new_snapshot_is_followed_only_by_who_is_at_the_end(browser: Browser, address: str, runs: Path) -> None:
    layout = RunLayout(runs / "parting")
    newest, earlier = (open_tab(browser, f"{address}/latent?run=parting{rest}") for rest in ("", "&source=step-100"))
    expect(newest.locator(f"{MAP} header")).to_contain_text("step 300")
    expect(earlier.locator(f"{MAP} header")).to_contain_text("step 100")
    rng = np.random.default_rng(0)
    for step in range(400, 600, 10):  # faster than a page is drawn: what the browser still holds must not be taken for a choice
        write_snapshot(layout, step, np.repeat(np.arange(60), 5), rng.normal(size=(300, 6)), rng, 8)
        newest.wait_for_timeout(150)
    expect(newest.locator(f"{MAP} header")).to_contain_text("step 590")
    assert "source=" not in newest.url
    expect(earlier.locator(f"{MAP} header")).to_contain_text("step 100")
    newest.close()
    earlier.close()


@pytest.mark.parametrize(
    ("query", "said", "width", "dark"),
    [
        ("run=nothing-yet", "The first is due after step", 390, False),
        ("run=few&plane=umap", "Too few points for UMAP", 1440, True),
        ("run=broken", "This cannot be read", 390, True),
        ("run=broken&source=step-100&of=states", "sets of 60 patients", 1440, False),
        ("run=parting&of=states&colour=var%3AGender&patient=s7", "150 sets of 30 patients", 390, True),
        ("run=gone", "There is no run folder named", 1440, False),
    ],
)
def test_every_state(browser: Browser, address: str, query: str, said: str, width: int, dark: bool) -> None:
    page = open_tab(browser, f"{address}/latent?{query}", width=width, dark=dark)
    expect(page.locator("main")).to_contain_text(said)
    if "plane" in query or "of=" in query:
        page.wait_for_selector(f"{MAP} .scatterlayer path.point")
    name = query.replace("=", "-").replace("&", "-").replace("%3A", "-")
    check(page, f"latent-{name}-{width}-{theme(dark)}", but=TABLES, full_page=True)
    page.close()
