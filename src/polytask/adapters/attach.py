"""Attaches deltas to the sites of a model, and detaches them again.

The model keeps its modules, its parameter names and its forward pass; deltas are applied by hooks. An ``Attached``
object holds the route of the current forward pass, so nothing is passed through Hugging Face's code.

A route is a context variable: forward passes in several threads do not see each other's. A new thread does not inherit
it, as with ``torch.no_grad``; ``asyncio.to_thread`` copies it.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polytask.architectures import Architecture, architecture_of, locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.fast.layer import AFTER_ATTENTION_SITES, fast_layer, register_sites
from polytask.dropout import KeyedDropoutSource, keyed_generator
from polytask.errors import BackboneError, RecipeError, RouteError, UnknownName
from polytask.fair_lock import FairLock
from polytask.methods import Probe
from polytask.methods.delta import Delta, DeltaMethod, Method, Place, Replacement
from polytask.methods.finetune import TopLayers
from polytask.routing.apply import apply_deltas
from polytask.routing.route import Mode, Route
from polytask.routing.sites import Site


@dataclass(frozen=True)
class ForwardPass:
    """The current forward pass: each row's adapter, and if texts are packed, each row's number of tokens."""

    route: Route | None = None
    sizes: tuple[int, ...] | None = None


NO_PASS = ForwardPass()
_PASSES: ContextVar[Mapping[Attached, ForwardPass]] = ContextVar("polytask_passes")


class Attached:
    """The sites of one model and the adapters on them.

    Its parameters are not changed here; for a user's own model see ``attach``. State that threads share changes under
    ``lock`` only.

    Args:
        model: the encoder, without a head.
        architecture: where its sites are.
        dropout_source: the source of dropout masks.
        lock: the backbone's lock.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: Architecture,
        dropout_source: KeyedDropoutSource | None = None,
        lock: FairLock | None = None,
    ) -> None:
        self.model = model
        self.dropout_source = dropout_source or KeyedDropoutSource()
        self.lock = lock or FairLock()
        self.sites = {found.place.name: Site(*found) for found in locate(model, architecture)}
        self.names: set[str] = set()
        self.methods: dict[str, Method] = {}
        self.default: str | None = None
        self.mode: Mode = "auto"
        with self.lock:
            register_sites(self, model, architecture)

    def __repr__(self) -> str:
        """``<Attached to bert: default (lora), 1,024 parameters beside the encoder's 20,640>``."""
        named = ", ".join(
            f"{name} ({self.methods[name].name})" if name in self.methods else name for name in self.names
        )
        num_added = sum(
            p.numel() for site in self.sites.values() for delta in site.deltas.values() for p in delta.parameters()
        )
        num_frozen = sum(parameter.numel() for parameter in self.model.parameters())
        kind = getattr(self.model.config, "model_type", "a model")
        return (
            f"<Attached to {kind}: {named or 'nothing'}, {num_added:,} parameters beside the encoder's {num_frozen:,}>"
        )

    @classmethod
    def of(cls, backbone: Backbone) -> Attached:
        """The sites of a backbone."""
        return cls(backbone.model, backbone.row, backbone.dropout_source, backbone.lock)

    @property
    def _pass(self) -> ForwardPass:
        return _PASSES.get({}).get(self, NO_PASS)

    @contextmanager
    def _in_pass(self, current: ForwardPass) -> Iterator[None]:
        token = _PASSES.set({**_PASSES.get({}), self: current})
        try:
            yield
        finally:
            _PASSES.reset(token)

    @property
    def route(self) -> Route | None:
        """The route of this context, if it has set one."""
        return self._pass.route

    def add(self, name: str, deltas: Mapping[str, Delta]) -> None:
        """Attach an adapter's deltas to their sites.

        Args:
            name: the adapter's name in routes.
            deltas: by the name of their place.

        Raises:
            RouteError: an adapter of this name is attached already, or there are no deltas.
            UnknownName: the model has no such place.
        """
        with self.lock:
            self._add(name, deltas)

    def _add(self, name: str, deltas: Mapping[str, Delta]) -> None:
        if name in self.names:
            raise RouteError(f"an adapter called {name!r} is attached already: remove it first")
        if not deltas:
            raise RouteError(
                f"{name!r} has no deltas: an adapter that replaces the backbone's own parameters (full and top-n "
                "fine-tuning) runs as its own forward pass and cannot share a batch"
            )
        for place in deltas:
            if place not in self.sites:
                raise UnknownName("site", place, self.sites)
        self.names.add(name)
        for place, delta in deltas.items():
            site = self.sites[place]
            site.deltas[name] = delta
            site.hook(self.output)

    def remove(self, name: str) -> None:
        """Detach an adapter. A site without deltas has no hook."""
        with self.lock:
            self._remove(name)

    def _remove(self, name: str) -> None:
        if name not in self.names:
            raise UnknownName("attached adapter", name, sorted(self.names))
        self.names.discard(name)
        self.methods.pop(name, None)
        self.default = None if self.default == name else self.default
        for site in self.sites.values():
            site.deltas.pop(name, None)
            site.stacks.clear()
            if not site.deltas:
                site.unhook()

    @contextmanager
    def routed(self, route: Route) -> Iterator[None]:
        """Use ``route`` for forward passes within the block; those of other threads keep their own routes."""
        for name in dict.fromkeys(route.names):
            if name is not None and name not in self.names:
                raise UnknownName("attached adapter", name, sorted(self.names))
        with self._in_pass(replace(self._pass, route=route)):
            yield

    @property
    def is_active(self) -> bool:
        """Whether a forward pass would use an adapter now."""
        return bool(self.names) and (self.route is not None or self.default is not None)

    @property
    def active_names(self) -> Collection[str | None]:
        """The adapters that rows of the forward pass in flight use."""
        return (self.default,) if self.route is None else self.route.distinct

    @contextmanager
    def packed(self, sizes: tuple[int, ...]) -> Iterator[None]:
        """Within the block, sites get packed texts ``[N, 1, D]``; ``sizes`` are the tokens of each row."""
        with self._in_pass(replace(self._pass, sizes=sizes)):
            yield

    def route_of(self, x: Tensor) -> Route:
        """The route of the batch that ``x``, ``[B, T, D]`` or packed, belongs to."""
        current = self._pass
        return current.route or Route((self.default,) * len(current.sizes or x))

    def output(self, site: Site, x: Tensor, y: Tensor) -> Tensor:
        """The output of a site, from its input ``x`` and the output ``y`` of its frozen module."""
        if not self.is_active:
            return y
        where = (self.dropout_source, site.place.name, self.mode, site.stacks, self._pass.sizes)
        return apply_deltas(self.route_of(y), site.deltas, x, y, site.output_module, *where)


def deltas_for(
    model: nn.Module, architecture: Architecture, method: Method, *, key: tuple[object, ...] | None
) -> dict[str, Delta]:
    """The deltas that ``method`` adds to ``model``, in fp32 on the model's device.

    Args:
        model: the encoder.
        architecture: where its sites are.
        method: what is trained.
        key: the random key of the initial values. None leaves them uninitialised, to be loaded or counted.

    Returns:
        A delta per place, by the place's name.

    Raises:
        RecipeError: the method trains the backbone's own parameters, or finds nothing to train.
    """
    if not isinstance(method, DeltaMethod):
        what = "trains a head only" if isinstance(method, Probe) else "trains the backbone's own parameters"
        raise RecipeError(f"{method.name!r} {what} and has nothing to attach")
    num_layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    method.chosen_layers(num_layers)
    device = next(model.parameters()).device
    deltas: dict[str, Delta] = {}
    sites = [found for found in locate(model, architecture) if method.acts_at(found.place, num_layers)]
    check_has_places(method, [found.place for found in sites], str(model.config.model_type))  # type: ignore[union-attr]
    with torch.device(device):
        for place, _, written, *_ in sites:
            delta = deltas[place.name] = method.delta(place)
            if key is not None:
                delta.start(written, keyed_generator(*key, "init", place.name))
    return deltas


def check_has_places(method: DeltaMethod, places: Sequence[Place], architecture: str) -> None:
    """Refuse a method that finds nothing to train in this architecture.

    Raises:
        RecipeError: ``places`` is empty.
    """
    if not places:
        raise RecipeError(
            f"{method.name!r} trains {method.trains}, and this {architecture} has none. Choose another method: "
            "houlsby, pfeiffer, parallel and lora act on every backbone"
        )


def replaced_parameters(model: nn.Module, architecture: Architecture, method: Replacement) -> list[str]:
    """The names of the parameters that ``method`` trains private copies of."""
    num_layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    if architecture.shares_layers and isinstance(method, TopLayers):
        raise RecipeError("'top' trains single layers, and here all layers share one set of weights. Train 'full'")
    names = [name for name, _ in model.named_parameters()]
    return [name for name in names if method.replaces(name, architecture.layer_of(name, num_layers), num_layers)]


def lowest_entry(model: nn.Module, architecture: Architecture, changed: Sequence[str]) -> EntryPoint:
    """Where an adapter first changes something: before a layer, or after the layer's attention.

    Everything below is the same for all adapters that change nothing there. Layer 0 includes the embeddings. The entry
    is after the attention if nothing in the attention changes and the layer has a fast version that can start there.

    Args:
        model: the encoder.
        architecture: where its layers are.
        changed: the names of the places and parameters that the adapter changes.
    """
    above = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    layer_of = {name: architecture.layer_of(name, above) for name in changed}
    layers = (above if name.startswith("pooler.") else layer or 0 for name, layer in layer_of.items())
    lowest = min(layers, default=above)
    behind = {f"layer.{lowest}.{site}" for site in AFTER_ATTENTION_SITES}
    inside = [name for name in changed if layer_of[name] == lowest and name not in behind]
    has_entry = 0 < lowest < above and fast_layer(model, architecture.layers, lowest) is not None
    return EntryPoint(lowest, has_entry and not inside)


def module_tree(modules: Mapping[str, nn.Module]) -> nn.Module:
    """One module that holds these under their dotted names, so that its state dict has the names of an adapter file."""
    root = nn.Module()
    for path, module in modules.items():
        parent, name = parent_of(root, path)
        parent.add_module(name, module)
    return root


def parent_of(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The submodule that a dotted name lies in, made if it is missing, and the last part of the name."""
    parent = root
    *parents, name = path.split(".")
    for part in parents:
        if part not in parent._modules:
            parent.add_module(part, nn.Module())
        parent = parent.get_submodule(part)
    return parent, name


_ATTACHED: weakref.WeakKeyDictionary[nn.Module, Attached] = weakref.WeakKeyDictionary()
SUBMODULE = "polytask"


def attach(model: nn.Module, method: Method, *, name: str = "default", seed: int = 0) -> Attached:
    """Attach an adapter to a Hugging Face model, to train it in your own loop.

    The encoder inside ``model`` is frozen; the layers on top of it, such as a classifier, stay trainable. The deltas
    become a submodule, ``model.polytask``, so that optimizers, ``.to`` and ``state_dict`` include them. Before training
    they change the output not at all or very little. Several adapters can be attached: choose one per row with
    ``with attached.routed(Route.of("aab"))``. Without a route, all rows use the one attached last. ``print(attached)``
    shows the numbers of trained and frozen parameters.

    Args:
        model: a Hugging Face model, with or without a head.
        method: what is trained.
        name: the adapter's name in routes.
        seed: the seed of the initial values.

    Raises:
        UnsupportedArchitecture: Polytask does not know the model's type.
        BackboneError: this is not a Hugging Face model, or its layers share one set of weights.
        RecipeError: this is not a method, or it trains the backbone's own parameters.
        RouteError: an adapter of this name is attached already.
    """
    if isinstance(model, Backbone):
        raise BackboneError("a Backbone has nothing to attach to: train on it with pt.train(backbone, task)")
    if not isinstance(method, Method):
        raise RecipeError(f"{method!r} is not a method. Give one, such as pt.LoRA(rank=8)")
    encoder = getattr(model, "base_model", model)
    config = getattr(encoder, "config", None)
    if config is None:
        raise BackboneError(
            f"{type(model).__name__} is not a Hugging Face model: it has no config. "
            "Load one: AutoModelForSequenceClassification.from_pretrained(name)"
        )
    row = architecture_of(str(config.model_type))
    if row.shares_layers:
        raise BackboneError(
            f"the layers of {config.model_type} share one set of weights, which attach cannot handle. Load it "
            "with load_backbone instead"
        )
    if row.prepare is not None:
        row.prepare(encoder)
    method = method.fitted(row.is_pre_norm)
    deltas = deltas_for(encoder, row, method, key=(seed, name))
    attached = _ATTACHED.get(model) or Attached(encoder, row)
    attached.add(name, deltas)
    if model not in _ATTACHED:
        encoder.requires_grad_(False)
        model.add_module(SUBMODULE, nn.ModuleDict())
        _ATTACHED[model] = attached
    model.get_submodule(SUBMODULE).add_module(name, module_tree(deltas))
    attached.default, attached.methods[name] = name, method
    return attached


def attached_to(model: nn.Module) -> Attached:
    """The adapters on a model.

    Raises:
        BackboneError: there are none.
    """
    attached = _ATTACHED.get(model) if isinstance(model, nn.Module) else None
    if attached is None:
        raise BackboneError(f"nothing is attached to this {type(model).__name__}: call pt.attach(model, …) first")
    return attached


def detach(model: nn.Module) -> None:
    """Undo ``attach``: remove deltas and hooks, and make every parameter trainable again."""
    attached = attached_to(model)
    del _ATTACHED[model]
    for name in list(attached.names):
        attached.remove(name)
    delattr(model, SUBMODULE)
    attached.model.requires_grad_(True)
