"""Plain modules of a backbone with one or many adapters, to be traced for ONNX.

They do not use ``polytask.routing``. Each delta's ``forward`` runs in a hook at its site. With many adapters, the
parameters of each row are looked up by the index of its adapter; the formulas accept parameters stacked like this.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.architectures import locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.encoder import Encoder
from polytask.dropout import KeyedDropoutSource
from polytask.errors import AdapterError, RouteError
from polytask.evaluation.heads import Head
from polytask.interchange.merged import copy_model, merged_model
from polytask.methods import Delta
from polytask.methods.bottleneck import Bottleneck
from polytask.routing.stacking import padded, tensors_of, with_parameters

KINDS = ("classification", "multilabel", "regression")
"""Kinds of heads that can share a graph. The graph stores their indices."""
PADDING_LOGIT = -1e9
"""The logit of a label that a task does not have; its probability is 0."""


class Graph(nn.Module):
    """Maps token ids to scores; the base of the two graphs below."""

    def __init__(self, backbone: Backbone, model: nn.Module) -> None:
        super().__init__()
        takes_types = backbone.encoder.takes_types
        self.encoder = Encoder(model, backbone.row, backbone.pooling, takes_types, KeyedDropoutSource())
        self._inputs: dict[str, Tensor] = {}
        self._row = backbone.row

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of ``forward``."""
        types = ("token_type_ids",) if self.encoder.takes_types else ()
        return ("input_ids", "attention_mask", *types)

    def hook(self, places: Sequence[str], output: Callable[[str, Tensor, Tensor, nn.Module], Tensor]) -> None:
        """Replace the output of these sites by ``output(place, x, y, base)``."""
        for spot in list(locate(self.encoder.model, self._row)):
            if spot.place.name not in places:
                continue
            if spot.rows is not None or spot.is_input:
                raise AdapterError(
                    f"{spot.place.name} is part of a fused projection, which ONNX export does not support"
                )
            self._hook(spot.place.name, spot.input, spot.output, output)

    def _hook(self, place: str, read: nn.Module, written: nn.Module, output: Callable[..., Tensor]) -> None:
        base = copy.copy(written)  # the frozen module without hooks, for formulas that call it
        base._forward_hooks, base._forward_pre_hooks = OrderedDict(), OrderedDict()

        def remember(_: nn.Module, args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            self._inputs[place] = args[0] if args else named["hidden_states"]

        def replace(_: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
            return output(place, self._inputs.pop(place) if read is not written else args[0], y, base)

        if read is not written:
            read.register_forward_pre_hook(remember, with_kwargs=True)
        written.register_forward_hook(replace)

    def encode(self, ids: Tensor, mask: Tensor, types: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, T, D]`` and pooled vectors ``[B, D]``."""
        model: Any = self.encoder.model
        named = dict(zip(("token_type_ids",), types))
        hidden = model(input_ids=ids, attention_mask=mask, **named).last_hidden_state
        return hidden, self.encoder.pool(hidden, mask)


class OneTask(Graph):
    """One adapter. Scores are probabilities ``[B, K]``, values ``[B, 1]``, or for spans logits ``[B, T, 2]``."""

    def __init__(self, backbone: Backbone, adapter: Adapter) -> None:
        loaded = LoadedAdapter.from_adapter(backbone, adapter)
        can_merge = not any(isinstance(delta, Bottleneck) for delta in loaded.deltas.values())
        super().__init__(backbone, merged_model(backbone, adapter) if can_merge else copy_model(backbone.model).float())
        self.head: Head = loaded.head.float()
        if not can_merge:
            self.deltas = nn.ModuleDict({name.replace(".", "-"): d.float() for name, d in loaded.deltas.items()})
            self.hook(list(loaded.deltas), self._apply_delta)
        self.eval().requires_grad_(False)

    def _apply_delta(self, place: str, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        delta: Any = self.deltas[place.replace(".", "-")]
        changed: Tensor = delta.forward(x, y, base)
        return changed

    def forward(self, ids: Tensor, mask: Tensor, *types: Tensor) -> Tensor:
        """Inputs are ``[B, T]``; returns the scores."""
        hidden, pooled = self.encode(ids, mask, types)
        return self.head.scores(self.head(self.head.input_of(hidden, pooled, mask)))


class ManyTasks(Graph):
    """Many adapters, chosen for each row by index. Scores are ``[B, K]`` with K the largest number of labels.

    Raises:
        RouteError: their methods differ in more than size, or a head reads tokens or has more than one layer.
    """

    def __init__(self, backbone: Backbone, adapters: Sequence[Adapter]) -> None:
        loaded_adapters = [LoadedAdapter.from_adapter(backbone, adapter) for adapter in adapters]
        check_same_formula(adapters, loaded_adapters)
        super().__init__(backbone, copy_model(backbone.model).float())
        self._deltas = {place: delta.float() for place, delta in loaded_adapters[0].deltas.items()}
        self._names: dict[str, list[str]] = {}
        for place in self._deltas:
            for name, stack in stacked([loaded.deltas[place] for loaded in loaded_adapters]).items():
                self._names.setdefault(place, []).append(name)
                self.register_buffer(_buffer(place, name), stack)
        self._stack_heads([loaded.head for loaded in loaded_adapters])
        self._adapter: Tensor | None = None
        self.hook(list(self._deltas), self._apply_delta)
        self.eval().requires_grad_(False)

    def _stack_heads(self, heads: Sequence[Head]) -> None:
        most = max(len(head.bias) for head in heads)
        shape = (most, heads[0].weight.shape[1])
        weights = torch.stack([padded(head.weight.detach().float(), shape) for head in heads])
        missing = [torch.full((most - len(head.bias),), PADDING_LOGIT) for head in heads]
        biases = torch.stack([torch.cat([head.bias.detach().float(), none]) for head, none in zip(heads, missing)])
        for name, values in (("weights", weights), ("biases", biases)):
            self.register_buffer(name, values)
        self.register_buffer("kinds", torch.tensor([KINDS.index(head.kind) for head in heads]))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of ``forward``."""
        return (*super().inputs, "adapter")

    def _apply_delta(self, place: str, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        assert self._adapter is not None
        own = {
            name: self.get_buffer(_buffer(place, name)).index_select(0, self._adapter) for name in self._names[place]
        }
        return with_parameters(self._deltas[place], own).forward(x, y, base)

    def forward(self, ids: Tensor, mask: Tensor, *rest: Tensor) -> Tensor:
        """Inputs are ``[B, T]``, and ``adapter`` ``[B]``, the index of each row's adapter; returns the scores."""
        *types, self._adapter = rest
        _, pooled = self.encode(ids, mask, types)
        weights, biases, kinds = (getattr(self, name)[self._adapter] for name in ("weights", "biases", "kinds"))
        logits = torch.bmm(weights, pooled[:, :, None]).squeeze(-1) + biases
        scores = torch.where((kinds == 0)[:, None], logits.softmax(dim=-1), logits)
        return torch.where((kinds == 1)[:, None], logits.sigmoid(), scores)


def check_same_formula(adapters: Sequence[Adapter], loaded_adapters: Sequence[LoadedAdapter]) -> None:
    """Check that all adapters have the same formulas.

    Raises:
        RouteError: one of them differs.
    """
    first = loaded_adapters[0]
    for adapter, loaded in zip(adapters, loaded_adapters):
        if loaded.head.reads_tokens or loaded.head.layers:
            raise RouteError(f"{adapter.header.task!r} has a head that cannot share a graph: export it alone")
        same = loaded.deltas.keys() == first.deltas.keys() and bool(loaded.deltas)
        if not same or any(delta.kind != first.deltas[place].kind for place, delta in loaded.deltas.items()):
            raise RouteError(
                f"adapters in one graph may differ in size only: {adapter.header.task!r} is {adapter.method} and "
                f"{adapters[0].header.task!r} is {adapters[0].method}. Export them one by one"
            )


def stacked(deltas: Sequence[Delta]) -> dict[str, Tensor]:
    """Stacked parameters ``[K, …]``, padded with zeros to the largest, which does not change the output."""
    trees = [tensors_of(delta) for delta in deltas]
    found = {}
    for name in trees[0]:
        shapes = [tuple(tree[name].shape) for tree in trees]
        largest = tuple(map(max, zip(*shapes, strict=True)))
        found[name] = torch.stack([padded(tree[name].detach().float(), largest) for tree in trees])
    return found


def _buffer(place: str, name: str) -> str:
    return f"{place}.{name}".replace(".", "-")


def check_not_empty(adapters: Sequence[Adapter]) -> None:
    """Check that there is an adapter.

    Raises:
        AdapterError: there is none.
    """
    if not adapters:
        raise AdapterError("there is no adapter to export")
