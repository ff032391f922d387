"""The page stands alone, shows everything and escapes it; files are written whole and removed when out of date."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from polytask.drawing.exhibit import NothingToShow
from polytask.errors import DataError, PolytaskError
from polytask.methods import FullFineTuning, Houlsby
from polytask.paper.background import Background
from polytask.paper.edition import trials
from polytask.paper.editions import edition_named
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import Entry, Ledger
from polytask.paper.report import Written, write_report
from polytask.paper.run import describe
from tests.entries import entry, whole_ledger

HOSTILE = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Collects the tags, what they refer to, and which are left open."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in self.VOID else [tag]
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset")]
        self.ids += [value or "" for name, value in attrs if name == "id" and tag == "section"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return whole_ledger(["CoLA", "QNLI", "sms_spam", "squad"], seeds=2)


@pytest.fixture(scope="module")
def written(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("report")
    return write_report(entries, folder / "exhibits", edition="cpu", html=folder / "page" / "paper.html")


@pytest.fixture(scope="module")
def text(written: Written) -> str:
    return written.html.read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself(text: str) -> None:
    page = Reader(text)
    assert not page.open
    assert page.references
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in page.references)
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "names of namespaces only"


def test_every_link_of_the_contents_leads_to_a_section(text: str) -> None:
    page = Reader(text)
    links = [
        reference[1:] for reference in page.references if reference[1:] in {*EXHIBITS, "glance", "missing", "data"}
    ]
    assert set(links) >= set(EXHIBITS)
    assert set(links) <= set(page.ids)


def test_the_page_says_what_was_run_on_what_and_what_is_missing(text: str) -> None:
    for part in (
        "Edition cpu on minilm",
        "hours of training and validation",
        "2,500 training rows of a task at most, 128 tokens of a text",
        "0f" * 32,
        "a processor",
        "torch 2.13.0",
        "a sample, read from QNLI_sample",
        "Table 1: GLUE: nothing on SST-2, MRPC, STS-B, QQP, MNLI-m, MNLI-mm and RTE.",
    ):
        assert part in text, part


def test_everything_in_an_entry_is_escaped(entries: list[Entry], tmp_path: Path) -> None:
    def spoilt(one: Entry) -> Entry:
        data = {**one.data, "notes": [HOSTILE], "digest": HOSTILE}
        environment = {**one.environment, "hardware": HOSTILE, "versions": {HOSTILE: HOSTILE}}
        backbone = {**one.backbone, "architecture": HOSTILE}
        return replace(one, data=data, environment=environment, backbone=backbone)

    few = [spoilt(one) for one in entries if one.trial.task in ("CoLA", "squad") and one.trial.seed == 0][:60]
    named = [
        replace(one, trial=replace(one.trial, task=HOSTILE), key=f"{at:016x}")
        for at, one in enumerate(few)
        if one.trial.task == "CoLA"
    ]
    written = write_report([*few, *named], tmp_path, edition=HOSTILE, command=f"polytask {HOSTILE}")
    text = written.html.read_text(encoding="utf-8")
    assert "<script" not in text.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not Reader(text).open


def test_every_exhibit_is_written_in_every_form(written: Written) -> None:
    assert written.html.name == "paper.html"
    folder = written.html.parent.parent / "exhibits"
    for name, exhibit in EXHIBITS.items():
        kinds = ("md", "tex", "csv", "png", "svg") if exhibit.draw else ("md", "tex", "csv")
        for kind in kinds:
            assert (folder / f"{name}.{kind}").stat().st_size > 100
    assert set(written.files) == {*folder.glob("*.*"), written.html}


def test_files_of_an_exhibit_that_became_empty_are_removed(entries: list[Entry], tmp_path: Path) -> None:
    write_report([one for one in entries if one.trial.suite == "squad"][:3], tmp_path, edition="cpu")
    assert (tmp_path / "squad.svg").exists()
    page = write_report([entry("sms_spam", Houlsby(64), 0.5, 0.5)], tmp_path, edition="cpu").html
    assert not (tmp_path / "squad.svg").exists()
    assert "Figure 5 needs SQuAD" in page.read_text(encoding="utf-8")


def test_empty_results_are_a_clear_message(tmp_path: Path) -> None:
    with pytest.raises(NothingToShow, match="the edition cpu has no results"):
        write_report([], tmp_path, edition="cpu")
    assert not list(tmp_path.iterdir())


def test_a_page_of_diverged_runs_says_so(tmp_path: Path) -> None:
    lost = [entry("CoLA", method, None, None) for method in (Houlsby(64), FullFineTuning())]
    text = write_report(lost, tmp_path, edition="cpu").html.read_text(encoding="utf-8")
    assert "2, each one recipe with one seed on one task; 2 diverged" in text


def as_planned(number: int) -> list[Entry]:
    """Entries of the first trials of the edition's Table 1."""
    edition = edition_named("cpu")
    made = entry("CoLA", Houlsby(64), 0.5, 0.5)
    return [replace(made, trial=trial, key=f"{at:016x}") for at, trial in enumerate(trials(edition, "table1"))][:number]


def test_exhibits_are_drawn_from_what_their_plan_asks_for(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "cpu")
    other = entry("CoLA", Houlsby(64), 0.9, 0.9, lr=0.02)
    assert list(Background.of(ledger).draws([other], "table1")) == [other], "nothing is known of the edition"
    describe(edition_named("cpu"), ledger, ["seeds: 1 where there were 2"])
    background = Background.of(ledger)
    planned = as_planned(4)
    assert list(background.draws([other, *planned], "table1")) == planned
    assert background.remarks == ("cut to fit a budget: seeds: 1 where there were 2",)
    written = write_report([other, *planned], tmp_path / "out", edition="cpu", background=background)
    text = written.html.read_text(encoding="utf-8")
    assert f"Table 1: GLUE: 4 of {background.planned['table1']:,} trials are run." in text
    assert "cut to fit a budget: seeds: 1 where there were 2" in text


def test_a_damaged_description_of_the_edition_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "cpu")
    describe(edition_named("cpu"), ledger, [])
    path = ledger.folder / "about" / "edition.json"
    path.write_text(json.dumps({"edition": {}}))
    with pytest.raises(DataError, match=r"edition\.json: this does not describe an edition"):
        Background.of(ledger)


def test_several_backbones_need_a_name(tmp_path: Path) -> None:
    ours = entry("CoLA", Houlsby(64), 0.5, 0.5)
    other = replace(ours, backbone={**ours.backbone, "name": "bert", "fingerprint": "ab"})
    with pytest.raises(PolytaskError, match="Choose one with --backbone"):
        write_report([ours, other], tmp_path, edition="cpu")
    assert "on bert, 1 run" in write_report([ours, other], tmp_path, edition="cpu", backbone="bert").html.read_text()


def test_figures_say_which_of_their_tasks_are_samples_or_known_to_the_backbone(tmp_path: Path) -> None:
    methods = (Houlsby(64), FullFineTuning())
    made = [entry("QNLI", method, 0.5, 0.5, max_rows=2500, is_sample=True) for method in methods]
    made += [entry("sms_spam", method, 0.5, 0.5) for method in methods]
    exhibits = {one.exhibit.name: one for one in write_report(made, tmp_path, edition="cpu").exhibits}
    assert exhibits["tradeoff"].marks == (
        "Samples of the official rows, not comparable with the paper: QNLI.",
        "The backbone saw texts of these in its own training: QNLI.",
        "Trained on 2,500 rows of a task at most.",
    )
    assert exhibits["table1"].marks == (), "these stand in its footnotes"
