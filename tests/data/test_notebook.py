"""What a person sees of an object in a shell or a notebook is short, whatever it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.notebook import html_table
from polytask.data.task import Answer, Rows, Task
from polytask.inference.predict import MultiTask
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe


def test_a_task_says_how_many_rows_it_has_and_not_which(tiny_task: Task) -> None:
    assert repr(tiny_task) == (
        "<Task 'mood': classification (bad, good), 48 training and 12 validation rows, 12 test rows, accuracy>"
    )
    assert repr(tiny_task.train) == "<Rows: 48 texts with targets>"
    assert repr(Rows(["a"], ["b"])) == "<Rows: 1 pairs of texts>"
    many = replace(tiny_task, labels=tuple(f"label{n}" for n in range(1000)))
    assert "(1,000 labels: label0, label1," in repr(many)
    assert len(repr(many)) < 200


def test_a_backbone_an_adapter_and_what_holds_them_fit_on_a_line(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    adapter, _ = train(tiny_backbone, tiny_task, Recipe(Houlsby(4), epochs=1, batch_size=8))
    assert repr(tiny_backbone).startswith(f"<Backbone {tiny_backbone.name!r}: bert, 2 layers of 32, ")
    assert repr(tiny_backbone).endswith("float32 on cpu, pooling mean>")
    assert repr(adapter).startswith(f"<Adapter 'mood': houlsby on {tiny_backbone.name!r}, classification (bad, good), ")
    store = Store(tmp_path)
    entry = store.put(adapter)
    assert repr(entry).startswith("Entry(task='mood', version=1, ")
    assert "header" not in repr(entry)
    multi = MultiTask(tiny_backbone, store)
    assert repr(multi) == f"<MultiTask on {tiny_backbone.name!r} with Store({str(tmp_path)!r}), loaded: nothing yet>"
    multi.load("mood")
    assert repr(multi).endswith("loaded: mood@1>")
    assert f"<td>mood@1</td><td>bad, good</td><td>houlsby</td><td>accuracy</td><td>{entry.score:.3f}</td>" in (
        store._repr_html_()
    )


@pytest.mark.parametrize(
    ("kind", "labels", "targets", "shown"),
    [
        ("classification", ("no", "yes"), [0, 1], ["no", "yes"]),
        ("multilabel", ("a", "b"), [(0, 1), ()], ["a, b", ""]),
        ("regression", (), [0.5, 2.0], ["0.5", "2"]),
        ("span", (), [(Answer("one", 0),), (Answer("two", 4),)], ["one", "two"]),
    ],
)
def test_a_notebook_shows_the_first_rows_with_their_labels_in_words(
    kind: str, labels: tuple[str, ...], targets: list[object], shown: list[str]
) -> None:
    rows = Rows(["<b>one</b>", "two"], ["one two", "one two"], targets)
    html = Task("t", kind, labels, "accuracy", rows, rows)._repr_html_()  # type: ignore[arg-type]
    assert "<td>&lt;b&gt;one&lt;/b&gt;</td><td>one two</td>" in html
    assert all(f"<td>{label}</td></tr>" in html for label in shown)


def test_a_long_cell_is_cut() -> None:
    assert len(html_table("", ["text"], [["x" * 10_000]])) < 300
