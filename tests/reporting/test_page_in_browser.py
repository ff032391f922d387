"""The page in a real browser: 77 labels, hostile names, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reporting.conftest import HOSTILE, NUM_LABELS
from tests.serving import browser as browsers
from tests.serving.browser import Browser

PROGRAM = browsers.found()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(hostile_page: Path) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, hostile_page.parent / "profile") as browser:
        browser.open(hostile_page.as_uri())
        yield browser


def test_nothing_is_fetched_and_nothing_fails(browser: Browser) -> None:
    assert browser.problems() == []
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []


def test_hostile_names_are_text(browser: Browser) -> None:
    assert browser.run("document.title").startswith("many@1 on ")
    assert browser.run("document.querySelectorAll('script, img, iframe').length") == 0
    assert "<script>document.title='hacked'</script>" in browser.run("document.body.innerText")


def test_the_page_is_no_wider_than_the_window(browser: Browser) -> None:
    for width in (1300, 400):
        browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_every_label_of_a_large_matrix_is_named_without_overprinting(browser: Browser) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=1300, height=900, deviceScaleFactor=1, mobile=False)
    names = (
        "[...document.querySelectorAll('#confusion svg text')].filter((node) => /label number/.test(node.textContent))"
    )
    assert browser.run(f"{names}.length") == 2 * (NUM_LABELS - len(HOSTILE))
    tops = f"{names}.map((node) => node.getBoundingClientRect()).filter((box) => box.width > box.height)"
    gaps = browser.run(
        f"{tops}.map((box) => box.top).sort((a, b) => a - b).map((y, i, all) => i ? y - all[i - 1] : 99)"
    )
    heights = browser.run(f"{tops}.map((box) => box.height)")
    assert len(gaps) == NUM_LABELS - len(HOSTILE)
    assert min(gaps) > 0.7 * max(heights), "lines of text are a little higher than their letters"


def test_pictures_take_the_colours_of_a_dark_page(browser: Browser) -> None:
    def colour() -> str:
        return str(browser.run("getComputedStyle(document.querySelector('#scores svg text')).fill"))

    light = colour()
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert colour() != light
