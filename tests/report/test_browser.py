"""The page in a real browser: what is seen and pressed, on a wide and on a narrow screen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.report.page import write_html
from lightning_ltts.report.runs import load_runs
from lightning_ltts.voting.adaptive import BetaStopping
from tests.conftest import browser_path
from tests.report.helpers import write

# all tests look at one page in one browser
pytestmark = [pytest.mark.processes, pytest.mark.browser]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two runs with as many methods as there are."""
    folder = tmp_path_factory.mktemp("report")
    paths = [write(folder / "a", questions=120, search="beam", replaced=True)]
    paths.append(write(folder / "b", questions=120, kind="right"))
    runs = load_runs(list(map(str, paths)), None, "sum", "majority", BetaStopping(), None)
    write_html(runs, folder / "r.html")
    return folder / "r.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="a browser is driven by playwright"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Any, report: Path, said: list[str], tab: str = "", **options: Any) -> Any:
    """A page; what it says on the console and asks of the network is added to `said`."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)  # of a machine that has much to do
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    own = ("file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(own) else said.append(r.url))
    page.goto(f"file://{report}{tab}")
    return page


def test_what_is_seen_and_pressed(browser: Any, report: Path) -> None:
    """Every tab shows what it is about, filters and details work, and the console stays empty."""
    said: list[str] = []
    page = open_page(browser, report, said)
    assert "4 samples and the weighted vote: " in page.locator(".answer").first.inner_text()
    assert page.locator("[role=tabpanel]:visible").get_attribute("data-tab") == "Results"
    for tab in ("Results", "Accuracy", "LatentRM", "Thoughts"):
        page.click(f"[role=tab][data-tab={tab}]")
        places = page.locator("section:visible .figure")
        drawn = page.locator("section:visible .figure .main-svg:first-child")
        assert places.count() == drawn.count() >= 1
    page.click("[role=tab][data-tab=Questions]")
    assert page.inner_text("#count") == "120 of 120 questions, page 1 of 3"
    page.click("#after")
    assert page.locator("details.question").count() == 50
    page.fill("#text", "q-117")
    assert page.inner_text("#count") == "1 of 120 questions, page 1 of 1"
    page.locator("details.question summary").click()
    page.wait_for_selector(".details table")  # browsers tell of what was opened a moment later
    assert page.locator(".details tbody tr, .details tr").count() == 1 + 4
    assert "majority vote" in page.inner_text(".details table")
    page.fill("#text", "")
    page.select_option("#right", label="majority vote")
    assert page.inner_text("#count").startswith("120 of 120")
    page.select_option("#wrong", label="greedy")
    assert page.inner_text("#count").startswith("0 of 120")
    page.select_option("#run", label="b")
    page.select_option("#samples", value="mixed")
    assert page.inner_text("#count").startswith("0 of 120")
    assert said == []


def test_the_tab_is_in_the_address(browser: Any, report: Path) -> None:
    page = open_page(browser, report, [], "#questions")
    shown = page.locator("[role=tabpanel]:visible")
    assert shown.get_attribute("data-tab") == "Questions"
    page.click("[role=tab][data-tab=Settings]")
    assert page.url.endswith("#settings")
    page.go_back()
    assert shown.get_attribute("data-tab") == "Questions"


def test_by_keyboard_alone(browser: Any, report: Path) -> None:
    """Arrows go from tab to tab, names explain themselves with the focus, space opens and ticks."""
    page = open_page(browser, report, [])
    page.locator("[role=tab][aria-selected=true]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.tab") == "Accuracy"
    assert page.locator("[role=tabpanel]:visible").get_attribute("data-tab") == "Accuracy"
    page.keyboard.press("Home")
    page.locator(".results .term", has_text="agreeing best-of-N").first.focus()
    assert "Best-of-N where the vote has a say" in page.inner_text("#tip")
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    box = page.locator(".legend:visible input").first
    box.focus()
    page.keyboard.press("Space")
    first = "document.querySelector('.figure').data[0].visible"
    assert page.evaluate(first) == "legendonly"
    page.keyboard.press("Space")
    assert page.evaluate(first) is True
    page.locator("[role=tab][aria-selected=true]").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.locator("details.question summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".details").first.is_visible()


def test_everything_has_a_name(browser: Any, report: Path) -> None:
    """What can be pressed or filled in has a label, and a figure its title."""
    page = open_page(browser, report, [], "#questions")
    nameless = """() => [...document.querySelectorAll("button, select, input")].filter(x =>
        !(x.ariaLabel || x.textContent.trim() || x.closest("label")?.textContent.trim())).length"""
    assert page.evaluate(nameless) == 0
    labels = """() => [...document.querySelectorAll("[aria-labelledby], [aria-describedby]")].flatMap(
        x => [x.getAttribute("aria-labelledby"), x.getAttribute("aria-describedby")]).filter(
        id => id && !document.getElementById(id))"""
    assert page.evaluate(labels) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_off_a_narrow_screen(browser: Any, report: Path, scheme: str) -> None:
    """In no tab, with everything opened, is there anything beyond 400 pixels but in its own box."""
    size = {"width": 400, "height": 800}
    page = open_page(browser, report, [], viewport=size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(x => { x.open = true; })")
    for tab in page.locator("[role=tab]").all():
        tab.click()
        if tab.get_attribute("data-tab") == "Questions":
            page.locator("details.question summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        beyond = """() => [...document.querySelectorAll("section:not([hidden]) *")].filter(x =>
            !x.closest(".scroll, .details, svg") && x.getBoundingClientRect().right > 401
            ).map(x => x.outerHTML.slice(0, 80))"""
        assert page.evaluate(beyond) == []


def test_dark(browser: Any, report: Path) -> None:
    """The page and its figures follow the system, also while they are open."""
    page = open_page(browser, report, [], color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    assert dark == "rgb(21, 24, 29)"
    font = "document.querySelector('.figure').layout.font.color"
    before = page.evaluate(font)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{font} !== '{before}'")
    assert page.evaluate(background) != dark
