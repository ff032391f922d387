"""The paper's baselines that train the transformer itself, each task on its own private copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from polytask.errors import RecipeError
from polytask.methods.delta import Replacement


@dataclass(frozen=True)
class FullFineTuning(Replacement):
    """Every parameter of the backbone, embeddings and pooler included."""

    name: ClassVar = "full"

    def replaces(self, parameter: str, layer: int | None, num_layers: int) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class TopLayers(Replacement):
    """The top ``n`` layers and the pooler; the paper's "variable fine-tuning"."""

    name: ClassVar = "top"

    n: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise RecipeError(f"n={self.n!r}: the number of top layers is a whole number from 1")

    def replaces(self, parameter: str, layer: int | None, num_layers: int) -> bool:
        """The pooler and the layers from ``num_layers - n`` up."""
        if self.n > num_layers:
            raise RecipeError(f"n={self.n}: the backbone has {num_layers} layers")
        if layer is None:
            return parameter.startswith("pooler.")
        return layer >= num_layers - self.n
