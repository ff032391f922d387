"""Sites: the places of a model where deltas act, through hooks; the model keeps its modules and parameter names.

A model may run in several threads at once, so a site stores the state of a forward pass for each thread separately.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from polytask.methods.delta import NORMS, Delta, Place
from polytask.routing.stacking import StackCache

Output = Callable[["Site", Tensor, Tensor], Tensor]


class Site:
    """A place in a model, and the deltas of adapters there.

    Args:
        place: the place.
        input_module: the module whose input is the delta's ``x``.
        output_module: the module whose output the delta replaces.
        rows: the rows of the output that belong to the site, if it is a part of a fused projection.
        is_input: the delta replaces the input of ``output_module`` instead of its output.
    """

    def __init__(
        self,
        place: Place,
        input_module: nn.Module,
        output_module: nn.Module,
        rows: tuple[int, ...] | None = None,
        is_input: bool = False,
    ) -> None:
        self.place, self.rows, self.is_input = place, rows, is_input
        self.input_module, self.output_module = input_module, output_module
        self.deltas: dict[str, Delta] = {}
        self.stacks = StackCache()
        self.handles: list[Any] = []
        self._rows: dict[torch.device, Tensor] = {}
        self._inputs: dict[int, Tensor] = {}
        self._applying: set[int] = set()

    def has_deltas_of(self, names: Collection[str | None] | None) -> bool:
        """Whether one of these adapters has a delta here; of None, whether any adapter has."""
        return bool(self.deltas) if names is None else not self.deltas.keys().isdisjoint(names)

    def hook(self, output: Output) -> None:
        """Install hooks that replace this site's output by ``output(site, x, y)``; nothing if they are there already.

        Hooks of norms run first: where a branch ends in a norm, the branch's own site comes after it.
        """
        if self.handles:
            return
        if self.is_input:
            self.handles.append(
                self.output_module.register_forward_pre_hook(lambda _, args: self._before(output, args))
            )
            return
        if self.input_module is not self.output_module:
            self.handles.append(self.input_module.register_forward_pre_hook(self._remember, with_kwargs=True))
        self.handles.append(
            self.output_module.register_forward_hook(
                lambda _, args, y: self._after(output, args, y), prepend=self.place.site in NORMS
            )
        )

    def unhook(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _remember(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs[threading.get_ident()] = args[0] if args else kwargs["hidden_states"]

    def _before(self, output: Output, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() in self._applying:
            return None
        return (self.apply(output, args[0], args[0]), *args[1:])

    def _after(self, output: Output, args: tuple[Any, ...], y: Tensor) -> Tensor:
        thread = threading.get_ident()
        if thread in self._applying:  # a delta calls the frozen part itself
            return y
        x = self._inputs.pop(thread, None)
        x = args[0] if x is None else x
        if self.rows is None:
            return self.apply(output, x, y)
        if y.device not in self._rows:
            with torch.inference_mode(False):  # the tensor outlives this forward pass
                self._rows[y.device] = torch.tensor(self.rows, device=y.device)
        index = self._rows[y.device]
        return y.index_copy(-1, index, self.apply(output, x, y.index_select(-1, index)))

    def apply(self, output: Output, x: Tensor, y: Tensor) -> Tensor:
        """``output(site, x, y)``; a call of the frozen part within it does not run this site again."""
        thread = threading.get_ident()
        self._applying.add(thread)
        try:
            return output(self, x, y)
        finally:
            self._applying.discard(thread)
