"""Adding a field changes no hash of stored JSON, and the files in ``tests/recorded`` stay readable."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import _OPTIONAL, Header
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.read import read_task
from polytask.errors import CheckpointError, DataError, RecipeError
from polytask.inference.predict import MultiTask
from polytask.methods import METHODS, FullFineTuning, Houlsby, described, method_described
from polytask.paper.ledger import Ledger, Trial
from polytask.paper.measurements import identity
from polytask.paper.rerun import rerun_entry
from polytask.paper.worker import loaded, rows_of
from polytask.serialization import ADDED, added_fields, to_json
from polytask.training import checkpoint as checkpoints
from polytask.training.checkpoint import Checkpoint
from polytask.training.grid import labelled
from polytask.training.job import Job
from polytask.training.loop import run_jobs, train
from polytask.training.recipe import Recipe
from tests.recording import FOLDER, RECIPE, STEPS, TEXTS


@dataclass(frozen=True)
class NewRecipe(Recipe):
    """A recipe of next year."""

    averaging: float = field(default=0.0, metadata=ADDED)


@dataclass(frozen=True)
class NewHoulsby(Houlsby):
    """A method of next year."""

    name: ClassVar = "houlsby"
    gated: bool = field(default=False, metadata=ADDED)


@dataclass(frozen=True)
class NewTrial(Trial):
    """A trial of next year."""

    folds: tuple[int, ...] = field(default=(), metadata=ADDED)


def test_an_added_field_is_left_out_of_json_and_keys_while_it_is_at_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = Recipe(lr=1e-3), NewRecipe(NewHoulsby(), lr=1e-3)
    assert new.to_json() == old.to_json()
    assert new.key == old.key
    changed = replace(new, averaging=0.9, method=NewHoulsby(gated=True))
    assert changed.key != old.key
    assert changed.to_json().keys() - old.to_json().keys() == {"averaging"}
    assert described(changed.method).keys() - described(old.method).keys() == {"gated"}
    monkeypatch.setitem(METHODS, "houlsby", NewHoulsby)
    assert NewRecipe.from_json(old.to_json()) == new
    assert NewRecipe.from_json(json.loads(json.dumps(changed.to_json()))) == changed
    trials = Trial("cpu", "glue", "CoLA", old.to_json()), NewTrial("cpu", "glue", "CoLA", old.to_json())
    assert trials[0].key("a", "b") == trials[1].key("a", "b") != replace(trials[1], folds=(1,)).key("a", "b")
    assert NewTrial.from_json(trials[0].to_json()) == trials[1]


def test_original_fields_are_written_at_their_defaults_too() -> None:
    assert set(Recipe().to_json()) == {each.name for each in fields(Recipe)} - set(added_fields(Recipe))
    assert to_json(NewHoulsby(), whole=True)["gated"] is False
    assert set(added_fields(Header)) == set(_OPTIONAL)


def test_an_unknown_field_is_refused_with_the_nearest_and_a_missing_one_by_name() -> None:
    whole = Recipe().to_json()
    with pytest.raises(
        RecipeError, match=r"the fields of a recipe are .*; not matching: patienc. Did you mean 'patience'\?"
    ):
        Recipe.from_json({**whole, "patienc": 1})
    with pytest.raises(RecipeError, match=r"not matching: lr$"):
        Recipe.from_json({name: value for name, value in whole.items() if name != "lr"})
    with pytest.raises(RecipeError, match=r"the fields of the method 'houlsby' .*: sise. Did you mean 'size'\?"):
        method_described({**described(Houlsby()), "sise": 3})
    with pytest.raises(RecipeError, match="a recipe is a JSON object"):
        Recipe.from_json([])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"not matching: max_row. Did you mean 'max_rows'\?"):
        Trial.from_json({**Trial("cpu", "glue", "CoLA", whole).to_json(), "max_row": 3})


def test_settings_at_their_defaults_are_shown_when_recipes_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, averaged = NewRecipe(), NewRecipe(averaging=0.9)
    assert labelled([plain, averaged]) == {plain.key: "averaging 0", averaged.key: "averaging 0.9"}
    monkeypatch.setattr(checkpoints, "Recipe", NewRecipe)
    jobs = [{"data": "d", "recipe": recipe.to_json()} for recipe in (plain, averaged)]
    with pytest.raises(CheckpointError, match=r"averaging was 0\.0 and is 0\.9"):
        checkpoints.check_same(Path("run.ckpt"), {"jobs": {"spam": jobs[0]}}, {"jobs": {"spam": jobs[1]}})


# -- files that exist already ------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what was recorded; the working directory is in it. Its own torch counts as this one."""
    shutil.copytree(FOLDER, tmp_path / "recorded")
    monkeypatch.chdir(tmp_path / "recorded")
    setting = Checkpoint("run.ckpt").header()
    assert setting is not None
    monkeypatch.setattr(torch, "__version__", setting["setting"]["torch"])
    return tmp_path / "recorded"


def facts() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "facts.json").read_text(encoding="utf-8")))


def of_then() -> Backbone:
    return load_backbone("backbone", device="cpu", dtype="float32", pooling="mean")


def test_recipes_backbones_and_tokenizers_have_the_keys_of_november_2026(recorded: Path) -> None:
    keys = {name: Recipe(method(), lr=1e-3, epochs=3).key for name, method in METHODS.items() if name in KNOWN_THEN}
    assert {**keys, "paper": Recipe.paper().key} == facts()["recipe_keys"]
    backbone = of_then()
    assert (backbone.fingerprint, backbone.tokenizer_fingerprint) == (facts()["fingerprint"], facts()["tokenizer"])


KNOWN_THEN = ("houlsby", "pfeiffer", "parallel", "lora", "ia3", "bitfit", "layernorm", "full", "top")


def test_adapters_of_november_2026_are_read_keep_their_digest_and_answer_alike(recorded: Path) -> None:
    store = Store("store")
    assert store.verify(of_then()) == []
    assert {name: store.entry(name).digest for name in store.tasks()} == facts()["digests"]
    together = MultiTask(of_then(), store)
    asked: dict[str, Any] = {"mood": TEXTS, "both": [(text, text) for text in TEXTS]}
    for name, texts in asked.items():
        adapter = store.get(name)
        assert adapter.header.inputs is None
        assert adapter.header.to_object()["format"] == 1
        adapter.save("again.safetensors")
        assert Adapter.load("again.safetensors").header == adapter.header
        assert Recipe.from_json(adapter.header.recipe) == RECIPE
        for answer, probs in zip(together.predict(texts, name), facts()["answers"][name], strict=True):
            assert dict(answer.probs or {}) == pytest.approx(probs, abs=1e-5)


def test_the_inputs_of_an_old_adapter_follow_from_its_columns(recorded: Path) -> None:
    store, together = Store("store"), MultiTask(of_then(), Store("store"))
    assert [store.entry(name).header.takes for name in ("mood", "both")] == ["single", "pair"]
    with pytest.raises(DataError, match="answers single texts"):
        together.predict([("good film", "bad film")], "mood")
    with pytest.raises(DataError, match="answers pairs of texts"):
        together.predict(["good film"], "both")


def test_a_checkpoint_of_november_2026_is_resumed(recorded: Path) -> None:
    backbone, task = of_then(), read_task("tasks/mood.csv")
    whole, _ = train(backbone, task, RECIPE)
    job = Job(backbone, task, RECIPE)
    assert Checkpoint("run.ckpt").load(backbone, [job])
    assert job.step == STEPS
    for _ in run_jobs(backbone, [job]):
        pass
    job.restore_best()
    for name, tensor in job.live.tensors().items():
        torch.testing.assert_close(tensor, whole.tensors[name], atol=1e-4, rtol=1e-3)


def test_an_entry_of_a_ledger_of_november_2026_is_known_by_its_key_and_runs_again(recorded: Path) -> None:
    ledger = Ledger("ledger", "cpu")
    (entry,) = ledger.entries()
    plain = load_backbone("backbone", device="cpu", dtype="float32")
    rows = loaded(rows_of(entry.trial), "tasks")
    assert entry.trial.key(identity(plain), rows.task.digest) == entry.key
    text = ledger.path(entry.key).read_text(encoding="utf-8")
    ledger.write(entry)
    assert ledger.path(entry.key).read_text(encoding="utf-8") == text
    repeated = rerun_entry(entry, "tasks")
    assert repeated.key == entry.key
    assert repeated.test == entry.test
    assert repeated.metrics == entry.metrics


def test_a_checkpoint_with_settings_that_are_not_known_is_refused_by_their_names(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    recipe = {**Recipe(FullFineTuning()).to_json(), "averagin": 0.5}
    held = {"jobs": {"spam": {"data": "d", "recipe": recipe}}}
    with pytest.raises(CheckpointError, match="not matching: averagin"):
        checkpoints.check_same(tmp_path / "run.ckpt", held, held)
