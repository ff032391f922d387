"""The page in a headless browser: answers, keyboard use, escaping, keys, colour schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.serving.auth import Keys
from tests.serving import browser as browsers
from tests.serving.browser import Browser
from tests.serving.servers import Served, serving
from tests.serving.stores import SERVED, random_adapter, with_labels

PROGRAM = browsers.found()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed (apt-get install chromium)")
HOSTILE = "<img src=x onerror=document.title='hacked'>"
SHOWN = "document.querySelectorAll('.answer').length"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path / "profile") as browser:
        yield browser


def test_a_text_is_classified_using_only_the_keyboard(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.wait("document.querySelectorAll('.chip').length === 9")
    assert browser.run("document.activeElement.id") == "text"
    browser.type("a great film")
    browser.press("Enter", ctrl=True)
    browser.wait(f"{SHOWN} === 8")
    shown = browser.run("[...document.querySelectorAll('.answer h3')].map((node) => node.textContent)")
    assert shown == [f"{task}@1" for task in sorted(SERVED) if task != "qa"]
    probs = served.classify(model="mood", input="a great film").json()["data"][0]["probs"]
    first = browser.run("document.querySelector('.answer .bars b').textContent")
    assert abs(float(first.rstrip("%")) - 100 * max(probs.values())) <= 0.6
    browser.press("Tab")  # to the first task
    assert browser.run("document.activeElement.value") == "mood"
    browser.press(" ")
    assert browser.run("[...document.querySelectorAll('.chip input:checked')].length") == 7
    assert browser.problems() == []


def test_the_page_shows_adapters_and_throughput(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.wait("document.querySelectorAll('#adapters tr').length === 9")
    row = browser.run("document.querySelector('#adapters tr').innerText").split("\t")
    assert row[:4] == ["mood@1", "classification", "bad, good", "houlsby, size 4"]
    assert row[4] == "accuracy 0.500"
    assert row[6] == "in memory"
    served.classify(model="mood", input=["a"] * 50)
    browser.wait("Number(document.getElementById('rows').textContent) > 0")


def test_a_question_task_shows_the_field_for_the_context(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.wait("document.querySelectorAll('.chip').length === 9")
    browser.run("document.getElementById('none').click(); document.querySelector('.chip input[value=qa]').click()")
    assert browser.run("document.getElementById('pair-field').hidden") is False
    browser.type("who won")
    browser.run("document.getElementById('pair').value = 'the team won the match'")
    browser.press("Enter", ctrl=True)
    browser.wait(f"{SHOWN} === 1")
    assert browser.run("document.querySelector('.said').textContent") in "the team won the match"


def test_abstained_answers_and_intervals_are_shown(browser: Browser, backbone: Backbone, tmp_path: Path) -> None:
    store = Store(tmp_path / "decided")
    thresholds = {"goal": "precision", "target": 0.9, "values": [0.999, 0.999], "rows": 60}
    store.put(random_adapter(backbone, "mood", decides={"thresholds": thresholds}))
    interval = {"kind": "conformal", "level": 0.9, "radius": 0.75, "rows": 60}
    store.put(random_adapter(backbone, "stars", "regression", decides={"calibration": interval}))
    with serving(backbone, tmp_path / "decided") as served:
        browser.open(served.url)
        browser.wait("document.querySelectorAll('.chip').length === 2")
        browser.type("a film")
        browser.press("Enter", ctrl=True)
        browser.wait(f"{SHOWN} === 2")
        mood, stars = browser.run("[...document.querySelectorAll('.answer')].map((node) => node.innerText)")
        score = served.classify(model="stars", input="a film").json()["data"][0]["score"]
    assert "no label" in mood
    assert "is below its threshold of 100%" in mood
    assert f"{score:.3f}" in stars
    assert f"90% interval {score - 0.75:.3f} to {score + 0.75:.3f}" in stars


def test_strings_of_an_adapter_are_escaped(browser: Browser, backbone: Backbone, tmp_path: Path) -> None:
    adapter = random_adapter(backbone, "mood")
    Store(tmp_path / "hostile").put(with_labels(adapter, [HOSTILE, "<script>document.title='hacked'</script>"]))
    with serving(backbone, tmp_path / "hostile") as served:
        browser.open(served.url)
        browser.wait("document.querySelectorAll('.chip').length === 1")
        browser.type(HOSTILE)
        browser.press("Enter", ctrl=True)
        browser.wait(f"{SHOWN} === 1")
        assert HOSTILE in browser.run("document.body.innerText")
        assert browser.run("document.querySelectorAll('main img, main script').length") == 0
        assert browser.run("document.title") == "Polytask"


def test_long_labels_fit_a_phone(browser: Browser, backbone: Backbone, tmp_path: Path) -> None:
    long = ["l" * 200, "Rückerstattung innerhalb der gesetzlichen Frist " * 4]
    Store(tmp_path / "long").put(with_labels(random_adapter(backbone, "n" * 64), long))
    with serving(backbone, tmp_path / "long") as served:
        browser.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        browser.open(served.url)
        browser.wait("document.querySelectorAll('#adapters tr').length === 1")
        browser.type("a film")
        browser.press("Enter", ctrl=True)
        browser.wait(f"{SHOWN} === 1")
        assert browser.run("document.documentElement.scrollWidth") == 390
        for part, most in (("#adapters tr", 200), (".answer", 260)):
            assert 40 < browser.run(f"document.querySelector('{part}').offsetHeight") < most, part
        assert browser.run("document.querySelector('.said').title") in long


def test_a_server_with_keys_asks_for_one(browser: Browser, backbone: Backbone, filled: Path) -> None:
    keys = Keys.from_lines(["infer a-key-for-the-page x"], "here", allow_plain=True)
    with serving(backbone, filled, keys=keys) as served:
        browser.open(served.url)
        browser.wait("!document.getElementById('key-field').hidden")
        browser.wait("document.activeElement.id === 'key'")
        browser.type("an-unknown-key")
        browser.press("Enter")
        browser.wait("document.getElementById('status').textContent === 'This key is unknown'")
        browser.run("document.getElementById('key').value = ''; document.getElementById('key').focus()")
        browser.type("a-key-for-the-page")
        browser.press("Enter")
        browser.wait("document.querySelectorAll('.chip').length === 9")
        assert browser.run("document.getElementById('key-field').hidden") is True
        assert browser.run("document.getElementById('status').textContent") == ""
        browser.open(served.url + "/docs")
        browser.wait("document.body.innerText.includes('POST /v1/classify')")


@pytest.mark.parametrize("is_dark", [False, True])
def test_the_page_follows_the_colour_scheme(tmp_path: Path, served: Served, is_dark: bool) -> None:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path / "profile", dark=is_dark) as browser:
        browser.open(served.url)
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        red = int(ground.removeprefix("rgb(").split(",")[0])
        assert red < 64 if is_dark else red > 192
