"""Sites of a model: where deltas hang, on hooks, so that the model keeps its modules and its names.

A model may run in several threads at once: what a site remembers within a forward pass is kept for each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from polytask.methods.delta import NORMS, Delta, Place
from polytask.routing.stacking import StackCache

Output = Callable[["Site", Tensor, Tensor], Tensor]


class Site:
    """A place in a model with the deltas that adapters put there.

    ``rows`` are those of the output that are meant, where the place is a part of a projection; with ``is_input`` the
    place is what goes into ``written``.
    """

    def __init__(
        self,
        place: Place,
        read: nn.Module,
        written: nn.Module,
        rows: tuple[int, ...] | None = None,
        is_input: bool = False,
    ) -> None:
        self.place, self.read, self.written, self.rows, self.is_input = place, read, written, rows, is_input
        self.deltas: dict[str, Delta] = {}
        self.stacks = StackCache()
        self.handles: list[Any] = []
        self._rows: dict[torch.device, Tensor] = {}
        self._inputs: dict[int, Tensor] = {}
        self._inside: set[int] = set()

    def hook(self, output: Output) -> None:
        """Let ``output(site, x, y)`` decide what comes out of this site, once there is a delta.

        Norms come first: where a branch ends in one, the branch's own site follows it.
        """
        if self.handles:
            return
        if self.is_input:
            self.handles.append(self.written.register_forward_pre_hook(lambda _, args: self._into(output, args)))
            return
        if self.read is not self.written:
            self.handles.append(self.read.register_forward_pre_hook(self._remember, with_kwargs=True))
        self.handles.append(
            self.written.register_forward_hook(
                lambda _, args, y: self._output(output, args, y), prepend=self.place.site in NORMS
            )
        )

    def unhook(self) -> None:
        """Leave the model as it was."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _remember(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs[threading.get_ident()] = args[0] if args else kwargs["hidden_states"]

    def _into(self, output: Output, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() in self._inside:
            return None
        return (self.through(output, args[0], args[0]), *args[1:])

    def _output(self, output: Output, args: tuple[Any, ...], y: Tensor) -> Tensor:
        thread = threading.get_ident()
        if thread in self._inside:  # a delta calls the frozen part itself
            return y
        x = self._inputs.pop(thread, None)
        x = args[0] if x is None else x
        if self.rows is None:
            return self.through(output, x, y)
        if y.device not in self._rows:
            with torch.inference_mode(False):  # it outlives this pass
                self._rows[y.device] = torch.tensor(self.rows, device=y.device)
        index = self._rows[y.device]
        return y.index_copy(-1, index, self.through(output, x, y.index_select(-1, index)))

    def through(self, output: Output, x: Tensor, y: Tensor) -> Tensor:
        """``output(site, x, y)``, during which the frozen part itself may be called."""
        thread = threading.get_ident()
        self._inside.add(thread)
        try:
            return output(self, x, y)
        finally:
            self._inside.discard(thread)
