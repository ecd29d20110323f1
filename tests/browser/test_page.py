"""The page as a reader meets it, in Chromium: with a mouse, a keyboard, a screen reader, a phone, a printer, no script.

Without a browser these tests fail: a page that nobody looked at is not tested.
"""

import os
import re
import shutil
from itertools import pairwise

import pytest
from made_report import made_report
from playwright.sync_api import sync_playwright

from bench.report.pages.html import page as render

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HOSTILE = "<img src=x onerror=alert(1)> ‮evil"
NAMES = ["equal", "uncertainty", "mgda[at=features]", "kd", HOSTILE, "dwa"]


@pytest.fixture(scope="session")
def browser():
    given = os.environ.get("MTL_BENCH_CHROMIUM", "/usr/bin/chromium")
    found = shutil.which(given) or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail(
            f"there is no browser at {given}: install chromium, or name one in MTL_BENCH_CHROMIUM", pytrace=False
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_bytes(render(made_report(6, 2, names=NAMES)))
    return path


@pytest.fixture(scope="session")
def crowd(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "crowd.html"
    path.write_bytes(render(made_report(24, 1, curves=False)))
    return path


@pytest.fixture
def open_page(browser, file):
    """Open the page; at the end nothing may have gone wrong in it, and nothing been asked of a network."""
    contexts, said, asked, opened = [], [], [], set()

    def open_(shown=file, **options):
        opened.add(shown.as_uri())
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(shown.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert set(asked) == opened


def board(page):
    return page.locator("table.board").first


def header(page, name):
    return board(page).get_by_role("columnheader", name=name)


def column(page, name):
    """The text and the sorting key of a column's cells, from top to bottom."""
    heads = [" ".join(head.split()) for head in board(page).locator("thead th").all_inner_texts()]
    cells = board(page).locator(f"tbody tr > :nth-child({heads.index(name) + 1})")
    return cells.evaluate_all("cells => cells.map(cell => [cell.textContent.trim(), cell.dataset.v ?? null])")


def names(page):
    return board(page).locator("tbody tr:visible th").all_inner_texts()


def test_a_click_sorts_a_second_turns_it_round_and_missing_ones_stay_last(open_page):
    page = open_page()
    for _ in range(2):
        header(page, "Memory ×").get_by_role("button").click()
        order = header(page, "Memory ×").get_attribute("aria-sort")
        keys = [key for _, key in column(page, "Memory ×")]
        there = [float(key) for key in keys if key is not None]
        assert keys[: len(there)].count(None) == 0
        assert None in keys
        assert there == sorted(there, reverse=order == "descending")
    assert order == "descending"
    assert page.locator("table.board").first.locator("[aria-sort]").count() == 1
    assert "sorted by Memory ×, descending" in page.get_by_role("status").inner_text()


def test_rows_that_are_equal_keep_their_order(open_page):
    page = open_page()
    before = names(page)
    header(page, "Seeds").get_by_role("button").click()
    assert names(page) == before


def test_names_sort_as_text(open_page):
    page = open_page()
    header(page, "Method").get_by_role("button").click()
    assert [name for name in names(page) if name.isalpha()] == ["dwa", "equal", "kd", "stl", "uncertainty"]


def test_the_best_comes_first_at_the_first_click(open_page):
    page = open_page()
    header(page, "Place").get_by_role("button").click()
    assert column(page, "Place")[0][0].startswith("1")
    header(page, "Verdict").get_by_role("button").click()
    assert "better" in column(page, "Verdict")[0][0]


def test_the_filter_leaves_what_is_named_and_says_how_many(open_page):
    page = open_page()
    page.get_by_role("searchbox", name="Methods").fill("UNCERT")
    assert names(page) == ["uncertainty"]
    assert page.get_by_role("status").inner_text() == "1 of 7 methods shown"
    page.get_by_role("searchbox", name="Methods").fill("")
    assert len(names(page)) == 7


def test_groups_of_columns_can_be_hidden(open_page):
    page = open_page()
    assert header(page, "Step ×").is_visible()
    page.get_by_label("Cost", exact=True).uncheck()
    assert not header(page, "Step ×").is_visible()
    assert header(page, "Δ task, pp").is_visible()
    page.get_by_label("Cost", exact=True).check()
    assert header(page, "Step ×").is_visible()


def test_all_can_be_done_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the results"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('th')?.textContent.startsWith('Seeds') ?? false"):
            break
    page.keyboard.press("Enter")
    assert header(page, "Seeds").get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert header(page, "Seeds").get_attribute("aria-sort") == "ascending"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name(open_page):
    regions = open_page().locator(".scroll")
    for attributes in regions.evaluate_all("all => all.map(one => [one.tabIndex, one.getAttribute('aria-label')])"):
        assert attributes[0] == 0
        assert attributes[1]


def test_a_screen_reader_finds_the_parts_by_role_and_name(open_page):
    page = open_page()
    tree = page.locator("body").aria_snapshot()
    for expected in (
        'heading "Multi-task learning leaderboard" [level=1]',
        'heading "Over all task sets" [level=2]',
        'heading "In short" [level=3]',
        'navigation "On this page"',
        'region "Leaderboard: Over all task sets"',
        'columnheader "Δ task, pp"',
        'rowheader "uncertainty"',
        'img "Gains with their intervals"',
        'img "Quality against cost"',
        'searchbox "Methods"',
        "- main:",
        "- status",
    ):
        assert expected in tree, expected
    table = board(page).aria_snapshot()
    assert re.match(r"- '?table \"Over all task sets: means", table)
    assert "better" in table
    assert "▲" not in table
    assert board(page).locator("thead th[scope=col]").count() == board(page).locator("thead th").count()
    assert header(page, "Δ task, pp").get_attribute("aria-sort") == "descending"


def test_headings_skip_no_level(open_page):
    levels = open_page().evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = node => { for (; node; node = node.parentElement) {
    const colour = rgba(getComputedStyle(node).backgroundColor); if (colour[3] === 255) return colour; } };
  let worst = [99, ""];
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())) continue;
    if (node.closest("script, style, title, desc")) continue;
    const ink = node.closest("svg") ? getComputedStyle(node).fill : getComputedStyle(node).color;
    const [a, b] = [light(rgba(ink)), light(behind(node.closest("svg") ?? node))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 200)];
  }
  return worst;
}"""
SHADES = """() => [0, 1, 2, 3, 5, 6, 7, 8].map(i => {
  const style = getComputedStyle(document.documentElement);
  const channels = name => style.getPropertyValue(name).trim().slice(1).match(style.getPropertyValue(name).trim()
    .length === 4 ? /./g : /../g).map(c => parseInt(c.length === 1 ? c + c : c, 16));
  return [channels(`--d${i}`), channels("--fg")];
})"""


def luminance(channels):
    linear = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in channels]
    return sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(open_page, scheme):
    page = open_page(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 380) == (scheme == "light")
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    for shade, ink in page.evaluate(SHADES):
        low, high = sorted(map(luminance, (shade, ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_only_tables_and_figures_scroll_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_names_stay_in_sight_on_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 800})
    region = page.locator(".scroll").first
    region.evaluate("region => { region.scrollLeft = 500; }")
    at = board(page).locator("tbody th").first.bounding_box()
    assert 0 <= at["x"] < 40


def test_print_opens_what_is_folded_and_leaves_out_the_controls(open_page):
    page = open_page()
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible()
    assert page.locator("details table").first.evaluate("table => table.getBoundingClientRect().height") > 20
    assert len(page.pdf()) > 50_000


def test_the_headings_of_many_methods_stay_in_sight(open_page, crowd):
    page = open_page(crowd, viewport={"width": 1280, "height": 600})
    region = page.locator(".scroll").first
    region.evaluate("region => { region.scrollTop = 600; }")
    top = region.bounding_box()["y"]
    assert abs(header(page, "Seeds").bounding_box()["y"] - top) < 30
    assert board(page).locator("tbody tr").first.bounding_box()["y"] < top - 300


def test_paper_has_no_numbers_of_figures_and_no_pairs_of_many_methods_and_says_so(open_page, crowd):
    page = open_page(crowd)
    assert not page.get_by_text("are not printed").first.is_visible()
    page.emulate_media(media="print")
    assert page.get_by_text("are not printed").first.is_visible()
    assert not page.locator("figure details").first.is_visible()
    assert not page.locator(".pairs").first.is_visible()
    assert page.locator("thead button").first.evaluate("b => getComputedStyle(b).display") == "contents"


def test_all_of_it_is_there_without_javascript(open_page):
    page = open_page(java_script_enabled=False)
    assert len(names(page)) == 7
    assert not page.locator("#controls").is_visible()
    assert page.locator("thead button").count() == 0
    assert page.locator("figure svg").count() > 10
    assert page.get_by_role("heading", name="What the numbers are evidence for, and what not").is_visible()


def test_a_hostile_name_is_shown_as_it_is(open_page):
    page = open_page()
    assert HOSTILE in names(page)
    page.get_by_role("searchbox", name="Methods").fill("<img")
    assert names(page) == [HOSTILE]
    assert page.locator("img").count() == 0
    assert (
        board(page).locator("tbody tr:visible bdi").evaluate("name => getComputedStyle(name).unicodeBidi") == "isolate"
    )
