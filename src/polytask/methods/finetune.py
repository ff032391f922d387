"""Full and top-n fine-tuning, the paper's baselines: each task trains a private copy of the backbone's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from polytask.counterparts import known_settings
from polytask.errors import RecipeError
from polytask.methods.delta import Replacement


@known_settings
@dataclass(frozen=True)
class FullFineTuning(Replacement):
    """Trains every parameter of the backbone, embeddings and pooler included."""

    name: ClassVar = "full"

    def replaces(self, parameter: str, layer: int | None, num_layers: int) -> bool:
        """True."""
        return True


@known_settings
@dataclass(frozen=True)
class TopLayers(Replacement):
    """Trains the top ``n`` layers and the pooler; "variable fine-tuning" in the paper."""

    name: ClassVar = "top"

    n: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise RecipeError(f"n={self.n!r}: the number of top layers is a whole number from 1")

    def replaces(self, parameter: str, layer: int | None, num_layers: int) -> bool:
        """Whether the parameter is in the pooler or in layer ``num_layers - n`` or above.

        Raises:
            RecipeError: the backbone has fewer than ``n`` layers.
        """
        if self.n > num_layers:
            raise RecipeError(f"n={self.n}: the backbone has {num_layers} layers")
        if layer is None:
            return parameter.startswith("pooler.")
        return layer >= num_layers - self.n
