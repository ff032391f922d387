"""The row of an architecture: where its sites are, its kind of norms, how it pools.

No code depends on the name of an architecture. Whatever differs between families is a field of the row, and each field
is read by one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from polytask.errors import BackboneError
from polytask.methods.delta import EMBED_NORM, FINAL_NORM, NORMS, SITES, Norm, Place

Pooling = Literal["pooler", "cls", "mean", "last", "late"]
POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean", "last", "late")
"""``late`` is the mean after a head's layers, which are applied to each token; ``mean`` is the mean before them."""
INTO = "into "
HEAD_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")
"""Activations of prediction heads, by their names in transformers."""
HEAD_LAYERS = ("dense", "norm", *HEAD_ACTIVATIONS)

WIDTHS: dict[str, tuple[str, str]] = {
    EMBED_NORM: ("embedding", "embedding"),
    "ffn_up": ("hidden", "intermediate"),
    "ffn_mid": ("intermediate", "intermediate"),
    "ffn_down": ("intermediate", "hidden"),
}
"""The names of input and output widths of sites where these are not both the hidden size."""


@dataclass(frozen=True)
class Fused:
    """A site that is a part of a fused projection.

    Attributes:
        path: the path of the linear, relative to the layer.
        part: which part it is, from 0.
        of: the number of parts.
        per_head: the parts alternate within each head, instead of one after another for all heads.
        bias: the path of the parameter with the part's bias, if the linear has none.
    """

    path: str
    part: int
    of: int = 3
    per_head: bool = False
    bias: str | None = None

    def rows(self, width: int, num_heads: int) -> tuple[int, ...]:
        """The rows of this part in the weight of the projection, which has ``width`` rows."""
        blocks = num_heads if self.per_head else 1
        size = width // (blocks * self.of)
        starts = ((block * self.of + self.part) * size for block in range(blocks))
        return tuple(row for start in starts for row in range(start, start + size))


@dataclass(frozen=True)
class HeadLayer:
    """A layer of a prediction head. ``kind`` is ``dense``, ``norm``, or an activation by its name in transformers."""

    kind: str
    bias: bool = False
    eps: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The layer as JSON, as in an adapter's header."""
        bias: dict[str, Any] = {"bias": self.bias}
        settings = {"dense": bias, "norm": bias | {"eps": self.eps}}
        return {"layer": self.kind, **settings.get(self.kind, {})}


def no_head(config: Any) -> tuple[HeadLayer, ...]:
    """No layers: the head is a single linear."""
    return ()


@dataclass(frozen=True)
class Architecture:
    """The paths of an architecture's modules, and the configuration fields that determine its output.

    Attributes:
        layers: the path of the list of layers.
        embed_norm: the path of the norm after the embeddings; None if there is none.
        sites: the path of each site, relative to a layer. ``"a > b"`` reads the input of ``a`` and writes the output
            of ``b``; ``"a"`` is short for ``"a > a"``; ``"into a"`` reads and writes the input of ``a``; ``Fused`` is a
            part of a projection.
        pooling: the pooling of a checkpoint that does not name one; ``pooler`` only where checkpoints have a
            pretrained pooler.
        has_pooler: whether the model class accepts ``add_pooling_layer``.
        fields: the configuration fields that determine the output; part of the fingerprint.
        pooling_field: the configuration field that names the pooling, and the meaning of its values.
        final_norm: the path of the norm after the last layer; None if there is none.
        is_pre_norm: whether norms come before the sub-layers instead of after the residual sums.
        norm, eps: the kind of norms, and the name of their attribute with the epsilon.
        without: names of places that this architecture lacks, such as a norm that is an identity.
        biases_vary: whether the configuration decides which linears and norms have a bias.
        widths: ``WIDTHS`` for this architecture.
        head: the layers of the prediction head that transformers puts below the classifier.
        first_position: the position of a text's first token; None for one after the id of the padding token.
        attention: whether the model can use this package's attention function.
        dropout: the module with the attention dropout, relative to a layer, and the configuration field with the rate,
            if the module has no ``nn.Dropout``.
        returns_tuple: whether a layer returns a tuple, hidden states first.
        shares_layers: whether several layers share one set of weights.
        packs: the name of the fast layer class in ``backbones.fast.patching.FAST``; None if there is none.
        position_bias: the path of the method that computes a bias on attention scores from distances, as T5's; None for
            none. It is called with hidden states ``[1, T, …]`` and returns ``[1, H, T, T]``.
        prepare: a function that changes a model once after loading, so that deltas can act on single rows.
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
    position_bias: str | None = None
    prepare: Callable[[nn.Module], None] | None = None

    def pooling_of(self, config: Any) -> Pooling:
        """The pooling that a configuration implies."""
        if self.pooling_field is None:
            return self.pooling
        name, meanings = self.pooling_field
        return meanings.get(str(getattr(config, name, None)), self.pooling)

    def head_of(self, config: Any) -> tuple[HeadLayer, ...]:
        """The layers of the prediction head that a configuration implies.

        Raises:
            BackboneError: its activation is not supported.
        """
        layers = self.head(config)
        for layer in layers:
            if layer.kind not in HEAD_LAYERS:
                raise BackboneError(
                    f"the prediction head of this backbone has the activation {layer.kind!r}; supported are "
                    f"{', '.join(HEAD_ACTIVATIONS)}. Set one of these in config.json: each task trains its own head"
                )
        return layers

    def first_position_of(self, config: Any) -> int:
        """The position of a text's first token: 0, or one after that of padding (RoBERTa's family and MPNet)."""
        return int(config.pad_token_id) + 1 if self.first_position is None else self.first_position

    def places(self, depth: int) -> list[Place]:
        """Every place of a backbone with ``depth`` layers, with widths and biases unknown."""
        once = [(EMBED_NORM, self.embed_norm), (FINAL_NORM, self.final_norm)]
        named = [(site, None) for site, path in once if path is not None]
        named += [(site, layer) for layer in range(depth) for site in SITES if site in self.sites]  # type: ignore[misc]
        found = [self.place(site, layer, 0, 0) for site, layer in named]
        return [place for place in found if place.name not in self.without]

    def place(self, site: str, layer: int | None, width_in: int, width_out: int, **known: Any) -> Place:
        """A place with this architecture's kind of norm; ``known`` sets further fields."""
        norm = {"norm": self.norm} if site in NORMS else {}
        return Place(site, layer, width_in, width_out, is_pre_norm=self.is_pre_norm, **norm | known)

    def layer_of(self, parameter: str, depth: int) -> int | None:
        """The layer of a place or parameter by name; ``depth`` for the final norm, None for embeddings and pooler."""
        for prefix in ("layer.", self.layers + "."):
            number = parameter.removeprefix(prefix).split(".")[0]
            if parameter.startswith(prefix) and number.isdigit():
                return int(number)
        above = [path for path in (self.final_norm and FINAL_NORM, self.final_norm) if path]
        return depth if any(parameter == path or parameter.startswith(path + ".") for path in above) else None
