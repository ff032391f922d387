"""Groups of options that several verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from polytask.cli import console, options
from polytask.cli.method_options import method_of, with_settings
from polytask.errors import DataError, RecipeError

if TYPE_CHECKING:
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Task
    from polytask.evaluation.thresholds import Goal
    from polytask.training.decision import Extras
    from polytask.training.recipe import Recipe


RECIPE_SETTINGS = (
    "batch_size",
    "max_length",
    "long",
    "stride",
    "class_weights",
    "keep_prefix",
    "patience",
    "ema",
    "rdrop",
    "num_modules",
    "head_start",
    "backbone_dropout",
)
"""The options of ``RecipeOptions`` that are settings of a recipe, under its names."""


@dataclass(frozen=True)
class BackboneOptions:
    """The backbone to load, and where."""

    backbone: options.BackboneName = "minilm"
    device: options.Device = "auto"
    dtype: options.Dtype = "auto"

    def load(self) -> Backbone:
        """Load the backbone."""
        return options.load_backbone(self.backbone, self.device, self.dtype)

    def resuming(self, setting: Mapping[str, Any] | None) -> BackboneOptions:
        """The options of a resumed run: dtype ``auto`` becomes the one that the run started with."""
        if self.dtype != "auto" or not setting:
            return self
        return replace(self, dtype=str(setting.get("dtype", self.dtype)))


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of a file with texts and labels, and how to read them."""

    text: options.TextColumn = None
    text_pair: options.PairColumn = None
    label: options.LabelColumn = None
    drop_empty: options.DropEmpty = False
    encoding: options.Encoding = None

    @property
    def columns(self) -> dict[str, str | None]:
        """The name of each column; None if it was not given."""
        return {"text": self.text, "text_pair": self.text_pair, "label": self.label}


@dataclass(frozen=True)
class TaskOptions:
    """The data to train on, except the files of training rows, which each verb takes itself."""

    hub: options.HubName = None
    task: options.TaskName = None
    validation: options.ValidationFile = None
    test: options.TestFile = None
    text: options.TextColumn = None
    text_pair: options.PairColumn = None
    label: options.LabelColumn = None
    kind: options.TaskKind = None
    metric: options.TaskMetric = None
    positive: options.Positive = None
    drop_empty: options.DropEmpty = False
    encoding: options.Encoding = None

    def read(self, file: str | None, seed: int) -> Task:
        """Read the task from a file or the hub, and print warnings about its data on stderr.

        Args:
            file: the training rows; None with ``hub``.
            seed: chooses the validation rows if none are given.

        Raises:
            DataError: neither or both of file and hub are given, or the data cannot be used.
        """
        from polytask.data.hub import read_hub
        from polytask.data.read import read_task

        self._check(file)
        names = ("text", "text_pair", "label", "kind", "metric", "positive", "drop_empty")
        shared: dict[str, Any] = {"name": self.task, "seed": seed, **{name: getattr(self, name) for name in names}}
        if self.hub is not None:
            task = read_hub(self.hub, **shared)
        else:
            files: dict[str, Any] = {"validation": self.validation, "test": self.test, "encoding": self.encoding}
            task = read_task(file or "", **files, **shared)
        console.notes(console.terminal(stderr=True), task.notes)
        return task

    def _check(self, file: str | None) -> None:
        if (file is None) == (self.hub is None):
            raise DataError("name one thing to train on: a file, or a dataset with --hub owner/name:configuration")
        if self.hub is not None and (self.validation or self.test):
            raise DataError("--validation and --test name files", fix="A dataset of the hub has its own splits")
        if self.hub is not None and self.encoding:
            raise DataError("--encoding is for files only", fix="Leave it out with --hub")


@dataclass(frozen=True)
class GoalOptions:
    """Thresholds, the detector of "none of these", and a probe for comparison."""

    precision: options.Precision = None
    recall: options.Recall = None
    coverage: options.Coverage = None
    f1: options.F1 = False
    per_label: options.PerLabel = False
    none_of_these: options.NoneRate = None
    none_label: options.NoneLabel = None
    probe: options.BesideProbe = True

    def extras(self) -> Extras:
        """All extras.

        Raises:
            RecipeError: an option is out of range, or does not go with another.
        """
        from polytask.evaluation.none_of_these import FALSE_ALARM, DetectNone
        from polytask.training.decision import Extras

        is_asked = self.none_of_these is not None or self.none_label is not None
        rate = FALSE_ALARM if self.none_of_these is None else self.none_of_these
        return Extras(self.goal(), DetectNone(rate, self.none_label) if is_asked else None, self.probe)

    def goal(self) -> Goal | None:
        """The goal; None if no option is given.

        Raises:
            RecipeError: more than one is given, or ``--per-label`` alone.
        """
        from polytask.evaluation.thresholds import Goal

        shares: dict[Any, float | None] = {
            "precision": self.precision,
            "recall": self.recall,
            "coverage": self.coverage,
        }
        goals = [Goal(aim, share, self.per_label) for aim, share in shares.items() if share is not None]
        goals += [Goal("f1", None, True)] if self.f1 else []
        if len(goals) > 1:
            raise RecipeError(
                "thresholds can reach only one goal. Give one of --precision, --recall, --coverage and --f1"
            )
        if self.per_label and not goals:
            raise RecipeError(
                "--per-label needs a goal for thresholds. Give --precision, --recall or --coverage with it"
            )
        return goals[0] if goals else None


@dataclass(frozen=True)
class RecipeOptions:
    """How to train: a recipe by name, and the settings that replace its own."""

    base: options.RecipeName = "default"
    method: options.RecipeMethod = None
    setting: options.Settings = None
    batch_size: options.BatchSize = None
    max_length: options.MaxLength = None
    long: options.LongTexts = None
    stride: options.Stride = None
    class_weights: options.ClassWeights = None
    keep_prefix: options.KeepPrefix = None
    patience: options.Patience = None
    ema: options.MovingAverage = None
    rdrop: options.RDrop = None
    num_modules: options.NumModules = None
    head_start: options.HeadStart = None
    backbone_dropout: options.BackboneDropout = None
    start: options.Start = None

    @property
    def start_from(self) -> str | list[str] | None:
        """The start, as ``train_to_store`` takes it.

        Raises:
            RecipeError: ``auto`` and a name are given.
        """
        if self.start and "auto" in self.start:
            if len(self.start) > 1:
                raise RecipeError("--start auto chooses among all adapters of the store. Leave out the other --start")
            return "auto"
        return self.start

    def recipe(
        self, *, seed: int, size: int | None = None, lr: float | None = None, epochs: int | None = None
    ) -> Recipe:
        """The recipe with these settings.

        Raises:
            UnknownName: there is no such recipe or method, or the method has no such setting.
            RecipeError: a value is out of range.
        """
        from polytask.training.recipe import Recipe

        base = Recipe.named(self.base)
        if self.method == "probe" and (lr is not None or epochs is not None):
            raise RecipeError("a probe is fitted in one pass, without a learning rate. Leave out --lr and --epochs")
        if self.method in (None, base.method.name):
            base = replace(base, method=with_settings(base.method, size, self.setting))
        else:  # the rate of a recipe is for its own method
            base = replace(base, method=method_of(str(self.method), size, self.setting), lr=None)
        given: dict[str, Any] = {name: getattr(self, name) for name in RECIPE_SETTINGS} | {"lr": lr, "epochs": epochs}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(base, seed=seed, **given)
