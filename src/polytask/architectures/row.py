"""What a row of the table of architectures says: where its sites are, how it is normalised, how it pools.

Nothing here knows an architecture by its name. What differs between families is a field of the row, and each field is
read by one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from polytask.methods.delta import EMBED_NORM, FINAL_NORM, NORMS, SITES, Norm, Place

Pooling = Literal["pooler", "cls", "mean", "last"]
POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean", "last")
INTO = "into "
HEAD_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")
"""Activations of prediction heads, by their names in transformers."""

WIDTHS: dict[str, tuple[str, str]] = {
    EMBED_NORM: ("embedding", "embedding"),
    "ffn_up": ("hidden", "intermediate"),
    "ffn_mid": ("intermediate", "intermediate"),
    "ffn_down": ("intermediate", "hidden"),
}
"""Names of the widths of what goes in and what comes out, where it is not the hidden size on both sides."""


@dataclass(frozen=True)
class Fused:
    """A site that is a part of a projection: number ``part`` of ``of``, of all heads or of each head (``per_head``).

    ``bias`` is the parameter of the layer that holds the part's bias, where the projection itself has none.
    """

    path: str
    part: int
    of: int = 3
    per_head: bool = False
    bias: str | None = None

    def rows(self, width: int, num_heads: int) -> tuple[int, ...]:
        """The rows of the projection's weight, of which there are ``width``."""
        blocks = num_heads if self.per_head else 1
        size = width // (blocks * self.of)
        starts = ((block * self.of + self.part) * size for block in range(blocks))
        return tuple(row for start in starts for row in range(start, start + size))


@dataclass(frozen=True)
class HeadLayer:
    """A layer of a prediction head: ``dense``, ``norm``, or an activation by its name in transformers."""

    kind: str
    bias: bool = False
    eps: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As it stands in the header of an adapter."""
        bias: dict[str, Any] = {"bias": self.bias}
        settings = {"dense": bias, "norm": bias | {"eps": self.eps}}
        return {"layer": self.kind, **settings.get(self.kind, {})}


def no_head(config: Any) -> tuple[HeadLayer, ...]:
    """The head is a linear layer alone."""
    return ()


@dataclass(frozen=True)
class Architecture:
    """Paths of the modules that matter, and the configuration fields that determine the answers.

    Attributes:
        layers: the list of layers.
        embed_norm: the norm behind the embeddings, None where there is none.
        sites: where each site of a layer is, relative to the layer. ``"a > b"`` reads what goes into ``a`` and writes
            what comes out of ``b``; ``"a"`` is both; ``"into a"`` is what goes into ``a``; ``Fused`` is a part of a
            projection.
        fields: the fields of the configuration on which answers depend; part of the fingerprint.
        pooling: what a checkpoint uses that does not say: ``pooler`` only where checkpoints bring a pretrained one.
        pooling_field: the field of the configuration that says it, with what its values mean.
        has_pooler: whether the model takes ``add_pooling_layer``.
        final_norm: the norm behind the last layer, None where there is none.
        is_pre_norm: whether norms stand before the sub-layers, not behind the residual sums.
        norm, eps: how norms compute, and the attribute in which they keep their epsilon.
        without: names of places that this architecture does not have, such as a norm that is an identity.
        biases_vary: whether the configuration decides which linears and norms have a bias.
        widths: as ``WIDTHS``, of this architecture.
        head: the layers of the prediction head that transformers puts below the classifier.
        first_position: the position of a text's first token; None: behind the id of the padding token.
        attention: whether the attention function of this package serves, or the model has its own.
        dropout: the module in a layer that drops attention's probabilities, and the field with the rate, where the
            module itself holds no ``nn.Dropout``.
        returns_tuple: whether a layer returns a tuple with the hidden states first.
        shares_layers: whether one set of weights serves several layers.
        packs: the kind of its layers, where they have a fast way over packed texts (``layers.FAST``).
        prepare: what is done once to a model, so that its sites are met by rows.
    """

    layers: str
    embed_norm: str | None
    sites: Mapping[str, str | Fused]
    pooling: Pooling = "cls"
    has_pooler: bool = True
    fields: tuple[str, ...] = ()
    pooling_field: tuple[str, Mapping[str, Pooling]] | None = None
    final_norm: str | None = None
    is_pre_norm: bool = False
    norm: Norm = "layer"
    eps: str = "eps"
    without: frozenset[str] = frozenset()
    biases_vary: bool = False
    widths: Mapping[str, tuple[str, str]] = field(default_factory=lambda: WIDTHS)
    head: Callable[[Any], tuple[HeadLayer, ...]] = no_head
    first_position: int | None = 0
    attention: bool = True
    dropout: tuple[str, str] | None = None
    returns_tuple: bool = False
    shares_layers: bool = False
    packs: str | None = None
    prepare: Callable[[nn.Module], None] | None = None

    def pooling_of(self, config: Any) -> Pooling:
        """How a checkpoint with this configuration pools, unless it says otherwise elsewhere."""
        if self.pooling_field is None:
            return self.pooling
        name, meanings = self.pooling_field
        return meanings.get(str(getattr(config, name, None)), self.pooling)

    def places(self, depth: int) -> list[Place]:
        """Every place of a backbone of so many layers, its widths and biases not yet known."""
        once = [(EMBED_NORM, self.embed_norm), (FINAL_NORM, self.final_norm)]
        named = [(site, None) for site, path in once if path is not None]
        named += [(site, layer) for layer in range(depth) for site in SITES if site in self.sites]  # type: ignore[misc]
        found = [self.place(site, layer, 0, 0) for site, layer in named]
        return [place for place in found if place.name not in self.without]

    def place(self, site: str, layer: int | None, width_in: int, width_out: int, **known: Any) -> Place:
        """A place with what this architecture says of it."""
        norm = {"norm": self.norm} if site in NORMS else {}
        return Place(site, layer, width_in, width_out, is_pre_norm=self.is_pre_norm, **norm | known)

    def layer_of(self, parameter: str, depth: int) -> int | None:
        """The layer of a place or of a model's parameter; ``depth`` for what stands above all, None for below."""
        for prefix in ("layer.", self.layers + "."):
            number = parameter.removeprefix(prefix).split(".")[0]
            if parameter.startswith(prefix) and number.isdigit():
                return int(number)
        above = [path for path in (self.final_norm and FINAL_NORM, self.final_norm) if path]
        return depth if any(parameter == path or parameter.startswith(path + ".") for path in above) else None
