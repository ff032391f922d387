"""Figures and their numbers, checked by hand and by numpy, from complete, partial and empty results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polytask.drawing.exhibit import NothingToShow
from polytask.methods import METHODS, FullFineTuning, Houlsby, LayerNormOnly, LoRA, Parallel, TopLayers
from polytask.paper import extensions
from polytask.paper.editions import edition_named
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import Entry
from polytask.paper.selection import runs_of
from polytask.paper.sweeps import draw_learning_rates
from tests.entries import LAYERS, ablated, entry, trained_by, whole_ledger

FIGURES = [name for name, exhibit in EXHIBITS.items() if exhibit.draw]


@pytest.fixture(scope="module")
def partial() -> pd.DataFrame:
    """Runs of results without most tasks."""
    return runs_of(whole_ledger(["CoLA", "RTE", "sms_spam", "squad"], seeds=2))


def rows_of(name: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    exhibit = EXHIBITS[name]
    return exhibit.records(exhibit.rows(runs_of(entries)))


def reading_of(name: str, entries: Sequence[Entry]) -> str:
    exhibit = EXHIBITS[name]
    return exhibit.reading(exhibit.rows(runs_of(entries)))


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_exhibit_is_made_from_results_that_lack_tasks(name: str, partial: pd.DataFrame, tmp_path: Path) -> None:
    exhibit = EXHIBITS[name]
    rows = exhibit.rows(partial)
    assert exhibit.reading(rows).endswith(".")
    table = exhibit.table(rows)
    assert table.title
    for text in (table.markdown(), table.latex(), table.csv(), table.html()):
        assert text.strip()
    if exhibit.draw is not None:
        exhibit.draw(rows, tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_exhibit_says_what_is_missing_from_empty_results(name: str) -> None:
    for given in ([], [entry("sms_spam", Houlsby(8), None, None)]):
        with pytest.raises(NothingToShow, match=r"need|the results hold no"):
            EXHIBITS[name].rows(runs_of(given))


def test_a_figure_is_the_same_file_each_time_and_a_png_where_asked(partial: pd.DataFrame, tmp_path: Path) -> None:
    rows, draw = EXHIBITS["squad"].rows(partial), EXHIBITS["squad"].draw
    assert draw is not None
    for folder in ("a", "b"):
        draw(rows, tmp_path / folder / "squad.svg")
    assert (tmp_path / "a/squad.svg").read_bytes() == (tmp_path / "b/squad.svg").read_bytes()
    draw(rows, tmp_path / "squad.png")
    assert (tmp_path / "squad.png").read_bytes().startswith(b"\x89PNG")


def test_every_exhibit_is_drawn_from_a_plan_of_the_editions() -> None:
    plans = {plan.exhibit for plan in edition_named("cpu").plans}
    assert {exhibit.plan or exhibit.name for exhibit in EXHIBITS.values()} == plans


def test_the_trade_off_is_percentiles_over_tasks_of_what_is_lost() -> None:
    losses = {"CoLA": 0.01, "SST-2": 0.03, "MRPC": 0.02, "RTE": 0.07, "STS-B": -0.01}
    entries = [entry(task, FullFineTuning(), 0.5, 0.8) for task in losses]
    entries += [entry(task, Houlsby(8), 0.5, 0.8 - loss) for task, loss in losses.items()]
    entries += [entry("QNLI", Houlsby(8), 0.5, 0.1)]  # nothing to compare it with
    (line,) = rows_of("tradeoff", entries)
    expected = np.percentile([-100 * loss for loss in losses.values()], [20, 50, 80])
    np.testing.assert_allclose([line["p20"], line["p50"], line["p80"]], expected)
    assert (line["suite"], line["method"], line["size"], line["tasks"]) == ("glue", "adapters", 8, 5)
    assert line["trained"] == trained_by(Houlsby(8)), "the head aside"


def test_each_size_of_the_trade_off_has_its_learning_rate_from_validation() -> None:
    entries = [entry("CoLA", FullFineTuning(), 0.5, 0.8)]
    entries += [entry("CoLA", Houlsby(8), val, test, lr=lr) for lr, val, test in ((1e-3, 0.7, 0.5), (3e-3, 0.6, 0.9))]
    entries += [entry("CoLA", TopLayers(1), 0.5, 0.75), entry("CoLA", LayerNormOnly(), 0.5, 0.7)]
    middle = {line["method"]: line["p50"] for line in rows_of("tradeoff", entries)}
    assert middle == pytest.approx({"adapters": -30.0, "layernorm": -10.0, "top": -5.0})


def test_figure_4_shows_what_there_is_of_its_two_tasks() -> None:
    entries = [entry("CoLA", FullFineTuning(), 0.5, 0.5), entry("CoLA", Houlsby(64), 0.5, 0.48)]
    assert {line["task"] for line in rows_of("tradeoff-tasks", entries)} == {"CoLA"}
    assert reading_of("tradeoff-tasks", entries) == "CoLA, against full fine-tuning: adapters 64 −2.0 points."


def test_squad_is_read_against_full_fine_tuning() -> None:
    sizes = {2: 0.80, 64: 0.87}
    entries = [entry("squad", Houlsby(size), 0.5, score) for size, score in sizes.items()]
    assert "nothing compares" in reading_of("squad", entries)
    said = reading_of("squad", [*entries, entry("squad", FullFineTuning(), 0.5, 0.88)])
    assert said.startswith(
        "Full fine-tuning reaches an F1 of 88.0; adapters of size 2 8.0 points behind and of size 64 1.0 point behind."
    )
    assert said.endswith("The backbone saw SQuAD in its own training.")


def test_the_ablation_is_the_mean_relative_change_over_seeds() -> None:
    entries = [
        entry("CoLA", Houlsby(64), 0.5, 0.5, seed=seed, measured={"ablation": ablated(full)})
        for seed, full in enumerate((0.8, 0.7))
    ]
    lines = {(line["first"], line["last"]): line for line in rows_of("ablation", entries)}
    assert len(lines) == LAYERS * (LAYERS + 1) // 2
    for (first, last), line in lines.items():
        changes = [ablated(full)["scores"][first][last] / full - 1 for full in (0.8, 0.7)]
        assert line["change"] == pytest.approx(100 * np.mean(changes))
    assert lines[0, 0]["seeds"] == 2
    assert "all 6 layers" in reading_of("ablation", entries)


def test_the_ablation_shows_the_adapter_that_validation_chose() -> None:
    worse, better = (
        entry("CoLA", Houlsby(64), val, 0.5, lr=lr, measured={"ablation": ablated(full)})
        for lr, val, full in ((1e-3, 0.4, 0.9), (3e-3, 0.6, 0.6))
    )
    lines = rows_of("ablation", [worse, better])
    assert lines[0]["score"] == pytest.approx(100 * ablated(0.6)["scores"][0][0])


def test_the_initialisation_sweep_reports_accuracy() -> None:
    spread = {1e-4: 0.7, 1e-2: 0.69, 1.0: 0.5}
    entries = [
        entry("CoLA", Houlsby(64, init_std=std), 0.5, 0.3, seed=seed, metrics={"accuracy": score + seed / 50})
        for std, score in spread.items()
        for seed in (0, 1)
    ]
    entries += [entry("CoLA", Houlsby(64), 0.9, 0.9, lr=3e-3)]  # of another sweep
    lines = rows_of("init", entries)
    assert [line["init_std"] for line in lines] == [1e-4, 1e-2, 1.0]
    assert [line["score"] for line in lines] == pytest.approx([71, 70, 51])
    assert [line["low"] for line in lines] == pytest.approx([70, 69, 50])
    assert {line["metric"] for line in lines} == {"accuracy"}


def test_learning_rates_show_the_worst_and_the_best_seed_and_what_diverged() -> None:
    entries = [
        entry("CoLA", Houlsby(64), 0.5, 0.5 + seed / 10, lr=lr, seed=seed)
        for lr in (1e-4, 3e-4, 1e-3)
        for seed in range(3)
    ]
    entries += [entry("CoLA", FullFineTuning(), 0.5, 0.6, lr=lr) for lr in (1e-4, 3e-4)]
    entries += [entry("CoLA", FullFineTuning(), None, None, lr=1e-3)]
    lines = {(line["method"], line["lr"]): line for line in rows_of("lr", entries)}
    assert len(lines) == 6
    at = lines["adapters", 3e-4]
    assert (at["mean"], at["low"], at["high"], at["seeds"]) == pytest.approx((60.0, 50.0, 70.0, 3))
    lost = lines["full", 1e-3]
    assert (lost["mean"], lost["seeds"], lost["diverged"]) == (None, 0, 1)
    assert "adapters at 3 of 3 rates and full fine-tuning at 2 of 3 rates" in reading_of("lr", entries)


def test_a_learning_rate_at_which_all_runs_diverged_is_drawn(tmp_path: Path) -> None:
    entries = [entry("CoLA", FullFineTuning(), 0.5, 0.6, lr=lr) for lr in (1e-4, 3e-4)]
    entries += [entry("CoLA", FullFineTuning(), None, None, lr=1e-3)]
    draw_learning_rates(EXHIBITS["lr"].rows(runs_of(entries)), tmp_path / "lr.svg")
    assert (tmp_path / "lr.svg").exists()


def test_two_learning_rates_are_too_few() -> None:
    with pytest.raises(NothingToShow, match="3 learning rates"):
        rows_of("lr", [entry("CoLA", Houlsby(64), 0.5, 0.5, lr=lr) for lr in (1e-4, 1e-3)])


def test_extensions_are_compared_with_plain_adapters_of_their_size_on_the_same_tasks() -> None:
    entries = [
        entry("CoLA", Houlsby(64), 0.5, 0.5),
        entry("RTE", Houlsby(64), 0.5, 0.6),
        entry("CoLA", Houlsby(8), 0.9, 0.9),
    ]
    entries += [entry("CoLA", Parallel(64), 0.5, 0.53), entry("RTE", Houlsby(64, activation="tanh"), 0.5, 0.58)]
    entries += [entry("CoLA", Houlsby(64, init_std=1.0), 0.5, 0.1)]  # another exhibit's
    found = {line["variant"]: line for line in rows_of("extensions", entries)}
    assert {name: line["difference"] for name, line in found.items()} == pytest.approx(
        {"parallel": 3.0, "houlsby, activation tanh": -2.0}
    )
    assert found["parallel"]["tasks"] == 1
    assert reading_of("extensions", entries).startswith(
        "1 of 2 variants are better than the plain adapter; the best (parallel, size 64) is 3.0 points ahead"
    )


def test_a_variant_is_named_by_what_is_not_usual() -> None:
    assert extensions.variant_name({"name": "lora", **METHODS["lora"]().settings()}) == "lora"
    assert extensions.variant_name({"name": "houlsby", **Houlsby(8, layers=(0, 1)).settings()}) == "houlsby, layers 0 1"
    assert extensions.variant_name({"name": "lora", **LoRA(4).settings()}) == "lora"
