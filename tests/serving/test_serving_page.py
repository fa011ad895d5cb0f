"""The page in a real browser, against `cfcd serve` over the demo collection."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cfcd.errors import MissingExtra
from tests.serving.page_support import (
    PAINTED,
    PHONE,
    PLACES,
    SCRIPT,
    SIZE,
    Open,
    give,
    hash_box,
    keep,
    make_gallery,
    overflow,
    scores,
    search,
    sent_boxes,
    serving,
    until,
    visits,
)
from tests.support import make_photo

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    try:
        make_gallery(root)
    except MissingExtra as error:
        pytest.skip(f"the photographs that packages ship are not here: {error}")
    return root


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder / "gallery", folder / "serve.log") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Open]:
    with visits(browser, address) as go:
        yield go


def test_it_opens_with_pictures_to_start_from(visit: Open) -> None:
    page = visit()
    assert page.title() == "gallery · cfcd"
    assert page.locator("#hits a").count() == 48
    assert page.inner_text("#headline") == "Or start with one of these"
    keep(page, "start")
    page.click("#more")
    until(page, "document.querySelectorAll('#hits a').length === 78")
    assert page.locator("#more").is_hidden()
    one = page.locator("#hits a").nth(3)
    item, label = one.get_attribute("data-id"), one.locator(".label").inner_text()
    one.click()
    page.wait_for_selector("#hits .score")
    assert parse_qs(urlsplit(page.url).fragment) == {"id": [item]}
    assert page.locator("#hits .label").first.inner_text() == label
    assert item not in page.locator("#hits a").evaluate_all("(all) => all.map((one) => one.dataset.id)")


def test_a_dropped_photo_is_searched(visit: Open, folder: Path) -> None:
    page = visit()
    give(page, "drop", folder / "photos" / "cathedral" / "view_01.jpg")
    page.wait_for_selector("#hits .score")
    assert re.fullmatch(r"\d+ match(es)?", page.inner_text("#headline"))
    assert page.locator("#headline .verdict.match svg").count() == 1
    first = page.locator("#hits a").first
    assert first.locator(".verdict").inner_text() == "Match"
    assert first.locator(".label").inner_text() == "cathedral"
    assert "building" in first.locator(".meta").inner_text()
    found = scores(page)
    assert found == sorted(found, reverse=True)
    assert page.locator("#hits h3").all_inner_texts()[-1] == "Nearest others, not matches"
    assert page.locator("#hits img").evaluate_all(
        "(all) => all.every((one) => one.alt.startsWith('Picture of '))"
    )
    assert page.locator("#hits img[loading=lazy]").count() == len(found)
    assert page.locator("#drop").is_hidden()
    keep(page, "results")


def test_a_pasted_photo_is_searched_and_none_is_no_match(visit: Open, folder: Path) -> None:
    page = visit(color_scheme="dark")
    strange = folder / "strange.jpg"
    make_photo(3, (300, 200)).save(strange)
    give(page, "paste", strange)
    page.wait_for_selector("#hits .score")
    assert page.inner_text("#headline") == "No match"
    assert "None of 78 pictures shows this object" in page.inner_text("#subline")
    assert set(page.locator("#hits .verdict").all_inner_texts()) == {"No match"}
    keep(page, "no-match-dark")


def test_several_pictures_are_one_query(visit: Open, folder: Path) -> None:
    page = visit()
    church = folder / "photos" / "church"
    search(page, church / "view_00.jpg", church / "view_01.jpg")
    assert page.inner_text("#headline") == "The most alike pictures"
    assert "a query made of several has none" in page.inner_text("#subline")
    assert page.locator("#hits .label").all_inner_texts()[:3] == ["church"] * 3
    keep(page, "several")
    page.set_input_files("#add", str(church / "view_02.jpg"))
    until(page, "document.querySelectorAll('#strip .thumb').length === 3")
    for left in (2, 0):  # one picture alone needs no strip
        page.click("#strip .remove >> nth=0")
        until(page, "(left) => document.querySelectorAll('#strip .thumb').length === left", left)
    page.wait_for_selector("#headline .verdict")


def test_a_box_is_drawn_moved_and_taken_away(visit: Open, folder: Path) -> None:
    page = visit()
    search(page, folder / "photos" / "cathedral" / "view_00.jpg")
    page.wait_for_selector("#select-part:enabled")
    width, height = page.evaluate(SIZE)
    frame = page.locator(".frame").bounding_box()

    def drag(*points: tuple[float, float]) -> None:
        for (x, y), then in zip(points, (page.mouse.down, page.mouse.up), strict=True):
            page.mouse.move(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"], steps=3)
            then()

    drag((0.25, 0.2), (0.75, 0.9))
    whole, drawn = sent_boxes(page, 2)
    assert whole == []
    assert drawn == pytest.approx([0.25 * width, 0.2 * height, 0.75 * width, 0.9 * height], abs=3)
    assert page.inner_text("#box-words") == f"Part of {drawn[2] - drawn[0]} × {drawn[3] - drawn[1]} px"
    drag((0.5, 0.5), (0.1, 0.5))
    moved = sent_boxes(page, 3)[2]
    assert moved == [0, drawn[1], drawn[2] - drawn[0], drawn[3]]
    page.wait_for_selector("#hits[aria-busy=false]")
    keep(page, "box")
    page.go_back()
    until(page, "!location.hash.includes('box=0')")
    assert hash_box(page) == drawn
    page.click("#whole")
    until(page, "!location.hash.includes('box')")
    assert page.locator(".box").is_hidden()
    drag((0.5, 0.5), (0.505, 0.5))  # a click is no box
    assert page.locator(".box").is_hidden()


def test_a_box_is_drawn_with_keys_and_with_a_finger(visit: Open, folder: Path) -> None:
    page = visit(**PHONE)
    search(page, folder / "photos" / "cathedral" / "view_00.jpg")
    page.wait_for_selector("#select-part:enabled")
    page.focus("#select-part")
    page.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    box = sent_boxes(page, 2)[1]
    width, height = page.evaluate(SIZE)
    step = round(max(width, height) * 0.02)
    quarters = [round(part / 4) for part in (width, height, 3 * width, 3 * height)]
    assert box == pytest.approx(
        [quarters[0] - step, quarters[1] - step, quarters[2], quarters[3] - step], abs=1
    )
    page.keyboard.press("Escape")
    until(page, "!location.hash.includes('box')")
    assert page.evaluate("document.activeElement.id") == "select-part"

    touch = page.context.new_cdp_session(page)

    def swipe() -> None:
        frame = page.locator(".frame").bounding_box()
        for step, part in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.8), ("touchEnd", None)):
            at = {
                "x": frame["x"] + (part or 0) * frame["width"],
                "y": frame["y"] + (part or 0) * frame["height"],
            }
            touch.send("Input.dispatchTouchEvent", {"type": step, "touchPoints": [at] if part else []})

    page.click("#select-part")
    swipe()
    until(page, "location.hash.includes('box')")
    expected = [0.3 * width, 0.3 * height, 0.8 * width, 0.8 * height]
    assert hash_box(page) == pytest.approx(expected, abs=6)
    page.wait_for_selector("#hits[aria-busy=false] .score")
    keep(page, "box-phone")
    page.click("#whole")  # a tap that a busy machine makes long is none
    until(page, "!location.hash.includes('box')")
    swipe()  # was not asked for: it is the browser's, to scroll
    assert page.locator(".box").is_hidden()


def test_filters_are_built_written_and_taken_away(visit: Open, folder: Path) -> None:
    page = visit(said="status of 400")
    search(page, folder / "photos" / "cathedral" / "view_00.jpg")
    page.click("#build")
    page.select_option("#column", label="kind")
    page.select_option("#operator", label="is")
    assert page.locator("#values option").evaluate_all("(all) => all.map((one) => one.value)") == [
        "other",
        "building",
    ]
    page.fill("#value", "building")
    keep(page, "filter")
    page.press("#value", "Enter")
    until(page, "document.querySelectorAll('#hits a').length === 12")
    assert page.locator("#chips .text").all_inner_texts() == ["kind = 'building'"]
    assert all("building" in text for text in page.locator("#hits .meta").all_inner_texts())
    page.keyboard.press("/")
    page.keyboard.type("year >= 2005 and label != 'fort'")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#hits a').length < 12")
    assert set(page.locator("#hits .label").all_inner_texts()) <= {"church", "cathedral", "pagoda"}
    page.fill("#where", "yeer = 2000")
    page.press("#where", "Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "no column 'yeer'" in page.inner_text("#problem strong")
    assert "'year'" in page.inner_text("#problem span")
    assert page.locator("#problem button").count() == 0
    assert page.locator("#hits a").count() == 0
    page.click("#chips .remove >> nth=2")
    until(page, "document.querySelectorAll('#chips li').length === 2")
    page.go_back()
    page.go_back()
    page.go_back()
    until(page, "document.querySelectorAll('#hits a').length === 12")
    assert page.locator("#chips .text").all_inner_texts() == ["kind = 'building'"]


def test_a_hit_is_explained_and_searched_with(visit: Open, folder: Path) -> None:
    page = visit()
    search(page, folder / "photos" / "coffee_cup" / "view_01.jpg")
    page.click("#hits a >> nth=1")
    page.wait_for_selector("#pair[aria-busy=false]")
    assert page.inner_text("#detail-title") == "coffee_cup"
    assert "each other's most alike" in page.inner_text("#said")
    assert page.inner_text("#left p").startswith("Half of the score comes from the outlined ")
    assert page.evaluate(PAINTED, "left") > 0.5
    assert page.evaluate(PAINTED, "right") > 0.5
    assert 0 < page.evaluate(PAINTED, "between") < 0.3
    keep(page, "explanation")
    page.click("#heat")
    assert page.evaluate(PAINTED, "left") == 0
    page.click("#lines")
    assert page.evaluate(PAINTED, "between") == 0
    page.click("#heat")
    assert page.evaluate(PAINTED, "left") > 0.5
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#detail-facts').textContent.includes('Rank 3')")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail').open")
    assert "hit=" not in page.url
    assert page.evaluate("document.activeElement.dataset.index") == "2"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail[open]")
    wanted = page.locator("#facts dd").nth(1).inner_text()
    page.click("#with-this")
    until(page, "!document.querySelector('#detail').open && location.hash.startsWith('#id=')")
    assert parse_qs(urlsplit(page.url).fragment) == {"id": [wanted]}
    until(page, "document.querySelectorAll('#hits .score').length === 48")
    page.go_back()
    page.wait_for_selector("#detail[open]")
    page.go_back()
    until(page, "!document.querySelector('#detail').open && location.hash.startsWith('#file=')")


def test_a_link_to_a_hit_of_an_item_opens_it(visit: Open) -> None:
    page = visit("#id=church%2Fview_00.jpg&hit=church%2Fview_01.jpg")
    page.wait_for_selector("#pair[aria-busy=false]")
    assert page.locator("#with-this").get_attribute("href") == "#id=church%2Fview_01.jpg"
    page.click("#and-this")
    until(page, "document.querySelectorAll('#strip .thumb').length === 2")
    assert page.url.endswith("#id=church%2Fview_00.jpg&id=church%2Fview_01.jpg")


def test_script_in_names_and_metadata_stays_text(visit: Open, folder: Path) -> None:
    page = visit()
    search(page, folder / "photos" / "coffee_cup" / f"{SCRIPT}.jpg")
    assert SCRIPT in page.locator("#hits .meta").first.inner_text()
    hostile = page.locator("#hits a[data-id*='onerror']").first
    assert hostile.locator("img").evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
    hostile.click()
    page.wait_for_selector("#pair[aria-busy=false]")
    assert SCRIPT in page.inner_text("#facts")
    page.click("#with-this")
    until(page, "location.hash.startsWith('#id=')")
    page.fill("#where", f"note = '{SCRIPT}'")
    page.press("#where", "Enter")
    until(page, "document.querySelectorAll('#hits a').length === 2")
    assert SCRIPT in page.inner_text("#chips")
    assert page.title() == "gallery · cfcd"


def test_a_phone_needs_no_sideways_scroll(visit: Open, folder: Path) -> None:
    page = visit(**PHONE)
    assert page.locator("#camera").get_attribute("capture") == "environment"
    assert page.locator("label:has(#camera)").is_visible()
    assert overflow(page) == 0
    keep(page, "start-phone")
    search(page, folder / "photos" / "coffee_cup" / "view_01.jpg")
    page.click("#build")
    assert overflow(page) == 0
    keep(page, "results-phone")
    page.click("#hits a >> nth=1")
    page.wait_for_selector("#pair[aria-busy=false]")
    assert overflow(page) == 0
    assert (
        page.evaluate("((one) => one.scrollWidth - one.clientWidth)(document.querySelector('#detail'))") == 0
    )
    keep(page, "explanation-phone")
    page.click("#shut")
    page.click("#show-about")
    assert overflow(page) == 0


def test_keys_walk_the_grid(visit: Open, folder: Path) -> None:
    page = visit()
    search(page, folder / "photos" / "coffee_cup" / "view_01.jpg")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "where"
    for _ in range(2):
        page.keyboard.press("Tab")
    index = "Number(document.activeElement.dataset.index)"
    assert page.evaluate(index) == 0
    page.keyboard.press("ArrowRight")
    assert page.evaluate(index) == 1
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("End")
    last = page.evaluate(index)
    assert last == page.locator("#hits a").count() - 1
    page.keyboard.press("ArrowUp")
    above = page.evaluate(index)
    spots = page.evaluate(PLACES)
    assert spots[above][0] == spots[last][0]
    assert spots[above][1] < spots[last][1]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(index) == last
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail[open]")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail').open")
    assert page.evaluate(index) == 0


def test_a_search_is_cancelled_and_tried_again(visit: Open, folder: Path) -> None:
    page = visit()
    page.route("**/v1/search/pictures", lambda route: None)  # never answered
    page.set_input_files("#pick", str(folder / "photos" / "church" / "view_00.jpg"))
    page.click("#cancel")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem strong") == "The search was cancelled."
    assert page.locator("#busy").is_hidden()
    page.unroute("**/v1/search/pictures")
    page.click("#problem button")
    page.wait_for_selector("#hits .score")
    assert page.locator("#problem").is_hidden()


def test_problems_are_said_with_a_way_to_mend_them(visit: Open, folder: Path) -> None:
    page = visit(said="status of 400|ERR_FAILED")
    broken = folder / "broken.jpg"
    broken.write_bytes(b"no picture at all")
    page.set_input_files("#pick", str(broken))
    page.wait_for_selector("#problem:not([hidden])")
    assert all(page.locator("#problem > *").all_inner_texts())
    page.route("**/v1/search/pictures", lambda route: route.abort())
    page.set_input_files("#add", str(folder / "photos" / "church" / "view_00.jpg"))
    until(page, "document.querySelector('#problem strong').textContent.includes('does not answer')")
    page.unroute("**/v1/search/pictures")
    words = folder / "words.txt"
    words.write_text("words")
    give(page, "drop", words)
    assert page.inner_text("#problem strong") == "words.txt is not a picture."
    page.reload()
    page.wait_for_selector("#problem:not([hidden])")
    assert "are gone" in page.inner_text("#problem strong")
    assert page.locator(".intake").is_visible()
