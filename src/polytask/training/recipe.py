"""``Recipe``: how to train. Settings that are None are chosen from the method and the data."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from polytask.counterparts import SETTINGS, known_settings
from polytask.data.encoding import Long, usual_stride
from polytask.data.task import Kind
from polytask.errors import RecipeError, UnknownName, nearest
from polytask.methods import METHODS, Houlsby, Method, Probe, described, method_described
from polytask.methods.delta import DeltaMethod
from polytask.serialization import ADDED, checked, to_json

F = TypeVar("F", bound=Callable[..., Any])

LEARNING_RATES = {
    "houlsby": 1e-3,
    "pfeiffer": 1e-3,
    "parallel": 1e-3,
    "lora": 1e-3,
    "ia3": 3e-3,
    "bitfit": 3e-3,
    "layernorm": 3e-3,
    "full": 1e-4,
    "top": 1e-4,
}
"""The default learning rates, chosen on data that no reported result uses; see docs/recipes.md."""

CLASS_WEIGHTS = ("balanced", "logit-adjusted")
HEAD_STARTS = ("random", "probe")
KEPT_EPOCHS = ("best", "last")
MIN_STEPS, MAX_EPOCHS, MIN_EPOCHS = 1500, 10, 3
FEW_STEPS = 30
"""If the most epochs have fewer steps than this, rows are few (``Recipe.for_few_rows``)."""


@known_settings
@dataclass(frozen=True)
class Recipe:
    """How an adapter is trained.

    Attributes:
        method: what is trained.
        lr: the peak learning rate, between a linear warm-up over ``warmup`` of the steps and a linear decay to 0.
            None: the method's default.
        epochs: number of epochs. None: 3 to 10, fewer for more rows. If 10 epochs have fewer than 30 steps, adapters
            for classification and several labels train for 30, with ``head_start="probe"`` and ``keep_epoch="last"``.
        batch_size: rows per step.
        max_length: the most tokens of a text; limited to what the backbone reads.
        long: what to do with a text of more than ``max_length`` tokens. ``truncate`` cuts off its end. ``split`` reads
            it in windows that overlap by a quarter: each is trained with the text's label, and the text's answer is the
            mean over its windows.
        stride: for spans only, whose contexts are always read in windows: the tokens that two neighbouring windows
            share. None: a third of ``max_length``, at most 128.
        seed: of initial weights, shuffling and dropout.
        warmup: the length of the warm-up as a share of the steps.
        weight_decay: of weights; biases and LayerNorms have none.
        clip: the largest norm of the gradients.
        epsilon: Adam's.
        bias_correction: True for Adam as published, False as in BERT's code.
        head_dropout: the dropout rate on the head's input: the pooled text, or each token of a span task.
        keep_prefix: run the layers below the lowest trained one without dropout, and compute their output once per
            text (``polytask.inference.prefix``). If nothing is trained in the attention of the lowest trained layer,
            that is included. Has no effect if there are no layers below.
        class_weights: ``balanced`` weights each class by the inverse of its frequency. ``logit-adjusted`` adds the
            logarithm of each class's share of the training rows to its logit in training (arXiv:2007.07314), so that
            answers do not favour frequent classes.
        patience: stop after this many epochs without a better validation score. None: never.
        ema: the decay of an exponential moving average of the weights, which is what is validated and kept. 0: none.
            It costs nothing.
        rdrop: the weight of R-Drop's loss (arXiv:2106.14448): each step reads its rows twice, with two dropout masks,
            and the divergence of the two answers is added to the loss. 0: none. It doubles the cost of training.
        num_modules: modules of each bottleneck, of which each step trains one at random; their mean is kept (AdaMix,
            arXiv:2205.12410, which has 4 of them and ``rdrop=1``). Costs nothing by itself.
        head_start: the first weights of the head. ``random``, or ``probe``: those of a probe, so that training starts
            from its answers (LP-FT, arXiv:2202.10054).
        keep_epoch: the epoch whose weights are kept: the ``best`` by the validation score, or the ``last``.
        backbone_dropout: the dropout rate inside the backbone's layers, wherever these have dropout. None: their own
            rates. 0 makes the frozen layers a fixed function and a step cheaper.
    """

    method: Method = field(default_factory=Houlsby)
    lr: float | None = None
    epochs: int | None = None
    batch_size: int = 32
    max_length: int = 256
    long: Long = "truncate"
    stride: int | None = None
    seed: int = 0
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    epsilon: float = 1e-6
    bias_correction: bool = True
    head_dropout: float = 0.1
    keep_prefix: bool = True
    class_weights: str | None = None
    patience: int | None = None
    ema: float = field(default=0.0, metadata=ADDED)
    rdrop: float = field(default=0.0, metadata=ADDED)
    num_modules: int = field(default=1, metadata=ADDED)
    head_start: str = field(default="random", metadata=ADDED)
    keep_epoch: str = field(default="best", metadata=ADDED)
    backbone_dropout: float | None = field(default=None, metadata=ADDED)

    def __post_init__(self) -> None:
        checks = {
            "method": isinstance(self.method, Method),
            "lr": self.lr is None or (_is_number(self.lr) and self.lr > 0),
            "epochs": self.epochs is None or _is_whole(self.epochs, 1),
            "batch_size": _is_whole(self.batch_size, 1),
            "max_length": _is_whole(self.max_length, 3),
            "long": self.long in ("truncate", "split"),
            "stride": self.stride is None or _is_whole(self.stride, 0),
            "seed": _is_whole(self.seed, None),
            "warmup": _is_number(self.warmup) and 0 <= self.warmup <= 1,
            "weight_decay": _is_number(self.weight_decay) and self.weight_decay >= 0,
            "clip": _is_number(self.clip, math.inf) and self.clip > 0,
            "epsilon": _is_number(self.epsilon) and self.epsilon > 0,
            "bias_correction": isinstance(self.bias_correction, bool),
            "head_dropout": _is_rate(self.head_dropout),
            "keep_prefix": isinstance(self.keep_prefix, bool),
            "class_weights": self.class_weights in (None, *CLASS_WEIGHTS),
            "patience": self.patience is None or _is_whole(self.patience, 1),
            "ema": _is_number(self.ema) and 0 <= self.ema <= 1,
            "rdrop": _is_number(self.rdrop) and self.rdrop >= 0,
            "num_modules": _is_whole(self.num_modules, 1),
            "head_start": self.head_start in HEAD_STARTS,
            "keep_epoch": self.keep_epoch in KEPT_EPOCHS,
            "backbone_dropout": self.backbone_dropout is None or _is_rate(self.backbone_dropout),
        }
        for name, is_right in checks.items():
            if not is_right:
                raise RecipeError(f"{name}={getattr(self, name)!r} is out of range. {_RANGES[name]}")
        if self.keep_epoch == "last" and self.patience is not None:
            raise RecipeError("patience waits for a better epoch, and keep_epoch='last' keeps the last. Leave one out")

    @classmethod
    def paper(cls, *, lr: float = 3e-4, epochs: int = 20, size: int = 64, seed: int = 0) -> Recipe:
        """The recipe of Houlsby et al. 2019, arXiv:1902.00751.

        It has tanh-GELU, Adam without bias correction, batches of 32, 128 tokens, and dropout in all layers. The paper
        sweeps learning rate, epochs and size: {3e-5, 3e-4, 3e-3} × {3, 20} × {8, 64, 256}.
        """
        method = Houlsby(size=size, activation="gelu_tanh", init_std=1e-2)
        settings = {"max_length": 128, "bias_correction": False, "keep_prefix": False}
        return cls(method, lr=lr, epochs=epochs, seed=seed, **settings)  # type: ignore[arg-type]

    @classmethod
    def named(cls, name: str) -> Recipe:
        """The recipe of this name: ``default`` or ``paper``.

        Raises:
            UnknownName: there is none.
        """
        recipes: dict[str, Callable[[], Recipe]] = {"default": cls, "paper": cls.paper}
        if name not in recipes:
            raise UnknownName("recipe", name, recipes)
        return recipes[name]()

    def fitted(self, kind: Kind, max_length: int, is_pre_norm: bool = False) -> Recipe:
        """The same recipe for a task of this kind and a backbone; its method's settings, and for spans its stride, are
        chosen.

        Args:
            kind: the task's kind.
            max_length: the most tokens of a text.
            is_pre_norm: whether the backbone's norms come before the sub-layers.

        Raises:
            RecipeError: a setting does not apply to tasks of this kind.
        """
        own = replace(self, method=self.method.fitted(is_pre_norm))
        if isinstance(self.method, Probe) and kind == "span":
            raise RecipeError("a probe answers from one vector of a text, so it cannot find spans. Choose a method")
        if kind != "span":
            if self.stride is not None:
                raise RecipeError(f"stride={self.stride} is for spans; this task is {kind}. Leave it out")
            return own
        if self.head_start == "probe":
            raise RecipeError("head_start='probe' is for texts with labels; a probe cannot find spans. Leave it out")
        if self.long != "truncate":
            raise RecipeError(
                f"long={self.long!r} is for texts with labels. The context of a question is always read in "
                "windows; stride says how many tokens two neighbours share"
            )
        return replace(own, stride=usual_stride(max_length) if self.stride is None else self.stride)

    def resolved(self, num_rows: int, kind: Kind | None) -> Recipe:
        """The same recipe with ``lr`` and ``epochs`` chosen, for ``num_rows`` training rows of a task of this kind.

        Args:
            num_rows: training rows, or windows of them.
            kind: the kind of the task; None for tasks of several kinds.

        A probe is fitted in one pass and has no learning rate, so both are ignored.
        """
        if isinstance(self.method, Probe):
            return replace(self, lr=None, epochs=1, ema=0.0, rdrop=0.0, head_start="random", keep_epoch="best")
        steps_an_epoch = -(-num_rows // self.batch_size)
        lr = LEARNING_RATES[self.method.name] if self.lr is None else self.lr
        if self.epochs is not None:
            return replace(self, lr=lr)
        is_few = MAX_EPOCHS * steps_an_epoch < FEW_STEPS and kind in ("classification", "multilabel")
        if is_few and isinstance(self.method, DeltaMethod):
            return replace(self, lr=lr).for_few_rows(steps_an_epoch)
        epochs = max(MIN_EPOCHS, min(MAX_EPOCHS, -(-MIN_STEPS // steps_an_epoch)))
        return replace(self, lr=lr, epochs=epochs)

    def for_few_rows(self, steps_an_epoch: int) -> Recipe:
        """The same recipe with the defaults for few rows (docs/recipes.md#few-rows).

        The head starts as a probe, from which 30 steps lead on. The last epoch is kept unless ``patience`` is given,
        because few rows have too few validation rows to tell epochs apart.
        """
        kept = "last" if self.patience is None else self.keep_epoch
        return replace(self, epochs=-(-FEW_STEPS // steps_an_epoch), head_start="probe", keep_epoch=kept)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values (see ``polytask.serialization``); ``from_json`` reads them back."""
        return {**{k: v for k, v in to_json(self).items() if k != "method"}, "method": described(self.method)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_json``; unknown or missing fields are refused."""
        given = checked(cls, values, "a recipe", RecipeError)
        return cls(**{**given, "method": method_described(given["method"])})

    def settings(self) -> dict[str, Any]:
        """All settings in one mapping, with defaults: ``{"method": "houlsby", "size": 64, …, "lr": 1e-3, …}``."""
        own = {name: value for name, value in to_json(self, whole=True).items() if name != "method"}
        return {"method": self.method.name, **to_json(self.method, whole=True), **own}

    @property
    def key(self) -> str:
        """16 hexadecimal digits of a SHA-256 over the settings; equal recipes have equal keys."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


def _is_whole(value: object, least: int | None) -> bool:
    """Whether ``value`` is an integer of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _is_number(value: object, most: float = sys.float_info.max) -> bool:
    """Whether ``value`` is a number of at most ``most`` in size; by default any finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def _is_rate(value: float) -> bool:
    """Whether ``value`` is a rate from 0 and below 1."""
    return _is_number(value) and 0 <= value < 1


_RANGES = {
    "method": "Give a method, such as Houlsby(size=64)",
    "seed": "Give a whole number",
    "bias_correction": "Give True or False",
    "lr": "Give a positive number, such as 1e-3",
    "epochs": "Give a whole number from 1",
    "batch_size": "Give a whole number from 1",
    "max_length": "Give a whole number from 3",
    "long": "Give 'truncate' or 'split'",
    "stride": "Give a whole number of tokens from 0",
    "warmup": "Give a share of the steps between 0 and 1",
    "weight_decay": "Give a number from 0",
    "clip": "Give a positive number",
    "epsilon": "Give a positive number",
    "head_dropout": "Give a rate from 0 and below 1",
    "keep_prefix": "Give True or False",
    "class_weights": "Give 'balanced', 'logit-adjusted' or nothing",
    "patience": "Give a whole number of epochs from 1",
    "ema": "Give a decay between 0 and 1, such as 0.99",
    "rdrop": "Give a weight from 0, such as 1.0",
    "num_modules": "Give a whole number from 1",
    "head_start": "Give 'random' or 'probe'",
    "keep_epoch": "Give 'best' or 'last'",
    "backbone_dropout": "Give a rate from 0 and below 1",
}


def takes_recipe(function: F) -> F:
    """Have a function that takes a recipe refuse settings beside it, with the recipe that has them.

    >>> train(backbone, task, epochs=1)
    Traceback (most recent call last):
    polytask.errors.RecipeError: train has no argument 'epochs'. Settings go in the recipe: pt.Recipe(epochs=1)
    """
    known = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in known:
                raise RecipeError(
                    f"{function.__name__} has no argument {name!r}.{_instead_of(name, given[name], known)}"
                )
        return function(*args, **given)

    return cast("F", checked)


def _instead_of(name: str, value: object, known: tuple[str, ...]) -> str:
    """What to write in place of an unknown argument."""
    setting = SETTINGS.get(name, name)
    if setting in {field.name for field in fields(Recipe)}:
        return f" Settings go in the recipe: pt.Recipe({setting}={value!r:.40})"
    if setting in {field.name for method in METHODS.values() for field in fields(cast("Any", method))}:
        return " Settings of a method go in the recipe's: pt.Recipe(pt.Houlsby(size=64)), pt.Recipe(pt.LoRA(rank=8))"
    near = nearest(name, known)
    return f"{f' Did you mean {near!r}?' if near else ''} There are: {', '.join(known)}"
