"""``LoadedAdapter``: an adapter as modules on a backbone's device, for training and answering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from polytask.adapters.adapter import NONE, Adapter
from polytask.adapters.attach import (
    check_has_places,
    deltas_for,
    lowest_entry,
    module_tree,
    parent_of,
    replaced_parameters,
)
from polytask.adapters.header import Inputs
from polytask.architectures import HeadLayer, locate
from polytask.backbones.backbone import Backbone
from polytask.data.batches import Batch
from polytask.data.task import Kind
from polytask.dropout import keyed_generator
from polytask.errors import AdapterError
from polytask.evaluation.decision import Decision, decision_of
from polytask.evaluation.heads import RegressionHead, head_for
from polytask.methods import Probe
from polytask.methods.delta import Delta, DeltaMethod, Method, Replacement

COPIES = "backbone"


class LoadedAdapter:
    """An adapter's modules: a head, and deltas or private copies of backbone parameters.

    ``tree`` holds them all under the names of an adapter file. Below the entry ``lowest`` the backbone is as it was.
    ``takes`` says what a row is, where that is known; ``recipe`` how a stored adapter was trained, as JSON values;
    ``decision`` how scores become an answer; ``trained_dtype`` the precision of the backbone in its training.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        kind: Kind,
        labels: Sequence[str],
        key: tuple[object, ...] | None,
        prediction_head: Sequence[HeadLayer] | None = None,
    ) -> None:
        self.method, self.kind, self.labels = method, kind, tuple(labels)
        self.takes: Inputs | None = None
        self.recipe: Mapping[str, Any] = {}
        self.trained_dtype: str | None = None
        self.decision = Decision(kind, self.labels)
        self.none_tensors: dict[str, Tensor] = {}
        own_head = () if isinstance(method, Probe) else backbone.head_layers
        layers = own_head if prediction_head is None else prediction_head
        is_late = backbone.pooling == "late"
        self.head = head_for(kind, len(labels), backbone.hidden, layers, is_late=is_late).to(backbone.device)
        with backbone.lock:  # while a replacement answers, the model holds its parameters, not the backbone's
            self.deltas = deltas_for(backbone.model, backbone.row, method, key=key) if _has_deltas(method) else {}
            self.copies: dict[str, nn.Parameter] = {}
            if isinstance(method, Replacement):
                names = replaced_parameters(backbone.model, backbone.row, method)
                own = dict(backbone.model.named_parameters())
                self.copies = {name: nn.Parameter(own[name].detach().clone()) for name in names}
        if key is not None:
            self.head.start(keyed_generator(*key, "init", "head"))
        self.tree = _tree_of(self.deltas, self.head, self.copies)
        self.tree.to(torch.promote_types(backbone.dtype, torch.float32))
        self.lowest = lowest_entry(backbone.model, backbone.row, [*self.deltas, *self.copies])

    @classmethod
    def from_adapter(cls, backbone: Backbone, adapter: Adapter) -> LoadedAdapter:
        """Put an adapter on a backbone, ready to answer.

        Raises:
            IncompatibleAdapter: the adapter belongs to another backbone.
        """
        adapter.fits(backbone)
        header = adapter.header
        own = (header.head.kind, header.head.labels)
        live = cls(backbone, adapter.method, *own, key=None, prediction_head=header.prediction_layers)
        live.takes, live.recipe = header.takes, header.recipe
        live.decision = decision_of(*own, header.decides)
        environment = header.result.get("environment")
        live.trained_dtype = environment.get("dtype") if isinstance(environment, Mapping) else None
        live.load({name: tensor for name, tensor in adapter.tensors.items() if not name.startswith(NONE)})
        own_none = {name: tensor for name, tensor in adapter.tensors.items() if name.startswith(NONE)}
        live.none_tensors = {name: tensor.to(backbone.device) for name, tensor in own_none.items()}
        return live.frozen(backbone.dtype)

    @property
    def num_trained(self) -> int:
        """The number of trained parameters, without the head."""
        return sum(p.numel() for p in self.tree.parameters()) - self.num_head

    @property
    def num_head(self) -> int:
        """The number of parameters of the head."""
        return sum(p.numel() for p in self.head.parameters())

    def frozen(self, dtype: torch.dtype | None = None) -> LoadedAdapter:
        """This adapter, no longer trainable. Matrices are cast to ``dtype``; in bf16 they take half the memory."""
        self.tree.requires_grad_(False)
        matrices = [p for delta in self.deltas.values() for p in delta.parameters() if p.dim() > 1]
        for parameter in (*matrices, *self.copies.values()):
            parameter.data = parameter.data.to(dtype or parameter.dtype)
        return self

    def share(self, other: LoadedAdapter) -> None:
        """Use the deltas or private copies of another adapter of the same method, with its own head."""
        self.deltas, self.copies = other.deltas, other.copies
        self.tree = _tree_of(self.deltas, self.head, self.copies)

    def familiarity(self, vectors: Tensor) -> Tensor:
        """How familiar texts are to a detector of none of these, ``[B]`` on the CPU, from its head's input."""
        assert self.decision.none is not None, "the adapter has a detector"
        return self.decision.none.familiarity(vectors, self.head(vectors), self.none_tensors).float().cpu()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the parameters to a file's tensors.

        Raises:
            AdapterError: the names or shapes are not those of the parameters.
        """
        have = {name: tuple(p.shape) for name, p in self.tree.named_parameters()}
        given = {name: tuple(t.shape) for name, t in tensors.items()}
        if have != given:
            odd = sorted(name for name in have.keys() | given.keys() if have.get(name) != given.get(name))
            raise AdapterError(f"tensors that do not fit this backbone: {', '.join(odd[:3])} ({len(odd)} in all)")
        self.tree.load_state_dict(dict(tensors))

    def tensors(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors of an adapter file, in fp32 on the CPU: those of ``state``, or else the parameters."""
        state = dict(self.tree.state_dict() if state is None else state)
        if isinstance(self.head, RegressionHead):
            own = self.head.state_in_own_unit({name: state[f"head.{name}"] for name in ("weight", "bias")})
            state.update({f"head.{name}": tensor for name, tensor in own.items()})
        return {name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in state.items()}


def _tree_of(deltas: Mapping[str, Delta], head: nn.Module, copies: Mapping[str, nn.Parameter]) -> nn.Module:
    """One module that holds all parameters under the names of an adapter file."""
    tree = module_tree({**deltas, "head": head})
    for name, copy in copies.items():
        parent, last = parent_of(tree, f"{COPIES}.{name}")
        parent.register_parameter(last, copy)
    return tree


def num_trained(backbone: Backbone, method: Method) -> int:
    """The number of parameters that a method would train, without the head. Nothing is allocated."""
    if isinstance(method, Replacement):
        own = dict(backbone.model.named_parameters())
        return sum(own[name].numel() for name in replaced_parameters(backbone.model, backbone.row, method))
    if not isinstance(method, DeltaMethod):
        return 0
    places = [found.place for found in locate(backbone.model, backbone.row)]
    own_places = [place for place in places if method.acts_at(place, backbone.num_layers)]
    check_has_places(method, own_places, backbone.architecture)
    with torch.device("meta"):
        return sum(parameter.numel() for place in own_places for parameter in method.delta(place).parameters())


def encode_batch(backbone: Backbone, batch: Batch, live: LoadedAdapter | None = None) -> tuple[Tensor, Tensor]:
    """One forward pass of the backbone.

    Args:
        backbone: a frozen backbone.
        batch: token ids, or states that enter at a layer.
        live: an adapter of the batch. If it is a replacement, its parameters are used instead of the backbone's.

    Returns:
        The hidden states ``[B, T, D]`` and one vector per text ``[B, D]``.
    """
    inputs: tuple[Any, ...] = (batch.ids, batch.mask, batch.types, batch.states, batch.entry, batch.host_mask)
    copies = {} if live is None else live.copies
    with backbone.lock:
        if not copies:
            hidden, pooled = backbone.encoder(*inputs)
        else:
            own = {f"model.{name}": copy.to(backbone.dtype) for name, copy in copies.items()}
            hidden, pooled = functional_call(backbone.encoder, own, inputs)
    return hidden, pooled


def _has_deltas(method: Method) -> bool:
    return isinstance(method, DeltaMethod)
