"""Averages of weights: over the steps of a run, and over the modules of AdaMix. Both cost next to nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from polytask.dropout import Key, key_seed
from polytask.errors import RecipeError
from polytask.methods import Method
from polytask.methods.bottleneck import Bottleneck, BottleneckMethod
from polytask.methods.delta import Delta

PARTS = ("down", "up")
"""The parts of a bottleneck that are chosen independently of each other."""


class MovingAverage:
    """An exponential moving average of a run's weights (Polyak and Juditsky, 1992).

    The average is the plain mean of all steps until these are ``1 / (1 - decay)``, so the initial weights have no share
    in it. With a decay of 1 it stays the plain mean.

    Args:
        weights: the weights, as one vector.
        decay: the share of the former average that a step keeps, 0 to 1.
    """

    def __init__(self, weights: Tensor, decay: float) -> None:
        self.mean, self.decay = weights.clone(), decay

    def update(self, weights: Tensor, num_steps: int) -> None:
        """Add the weights after ``num_steps`` steps, counted from 1."""
        self.mean.lerp_(weights, max(1 - self.decay, 1 / num_steps))


class Mixture:
    """Several modules in place of each bottleneck, of which a step trains one at random (AdaMix, arXiv:2205.12410).

    In each step, every bottleneck takes its projection down from one module and its projection up from another, drawn
    anew. At the end the modules are averaged into one plain bottleneck. All modules start with the same weights.
    LayerNorms and the head exist once.

    Args:
        deltas: the deltas of an adapter by place; its bottlenecks become the first module.
        num_modules: modules of each bottleneck.
        num_passes: passes of a step, each with modules of its own.
        key: the key of the draws.
    """

    def __init__(self, deltas: Mapping[str, Delta], num_modules: int, num_passes: int, key: Key) -> None:
        self.key = key
        own = {place: delta for place, delta in deltas.items() if isinstance(delta, Bottleneck)}
        first = {(place, part): getattr(delta, part) for place, delta in own.items() for part in PARTS}
        self.modules = {at: [one, *(copy.deepcopy(one) for _ in range(num_modules - 1))] for at, one in first.items()}
        others = range(num_passes - 1)
        self.other_passes = [{**deltas, **copy.deepcopy(own)} for _ in others]
        self.passes = [dict(deltas), *self.other_passes]

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of all modules but the first, by name."""
        for (place, part), modules in self.modules.items():
            for number, module in enumerate(modules[1:], start=1):
                for name, parameter in module.named_parameters():
                    yield f"module.{number}.{place}.{part}.{name}", parameter

    def choose(self, step: int) -> None:
        """Draw the modules of a step, from 0; a function of the key and the step."""
        for number, deltas in enumerate(self.passes):
            for (place, part), modules in self.modules.items():
                drawn = key_seed(*self.key, step, "module", number, place, part) % len(modules)
                setattr(deltas[place], part, modules[drawn])

    @torch.no_grad()
    def merge(self) -> None:
        """Set the weights of all modules to their mean."""
        for modules in self.modules.values():
            for same in zip(*(module.parameters() for module in modules), strict=True):
                mean = torch.stack([p.detach() for p in same]).mean(dim=0)
                for parameter in same:
                    parameter.copy_(mean)


def check_mixture(method: Method, num_modules: int) -> None:
    """Refuse several modules of a method without bottlenecks.

    Raises:
        RecipeError: with the methods that have bottlenecks.
    """
    if num_modules > 1 and not isinstance(method, BottleneckMethod):
        raise RecipeError(
            f"num_modules={num_modules} is for bottlenecks, and {method.name!r} has none. "
            "Choose houlsby, pfeiffer or parallel, or leave it out"
        )
