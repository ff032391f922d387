"""Sites of a model: where deltas hang, on hooks, so that the model keeps its modules and its names.

A model may run in several threads at once: what a site remembers within a forward pass is kept for each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from polytask.methods.seam import Delta, Place
from polytask.routing import Stacks


class Site:
    """A place in a model with the deltas that adapters put there."""

    def __init__(self, place: Place, read: nn.Module, written: nn.Module) -> None:
        self.place, self.read, self.written = place, read, written
        self.deltas: dict[str, Delta] = {}
        self.stacks = Stacks()
        self.handles: list[Any] = []
        self._inputs: dict[int, Tensor] = {}
        self._inside: set[int] = set()

    def hook(self, output: Callable[[Site, Tensor, Tensor], Tensor]) -> None:
        """Let ``output(site, x, y)`` decide what comes out of this site, once there is a delta."""
        if self.handles:
            return
        if self.read is not self.written:
            self.handles.append(self.read.register_forward_pre_hook(self._remember, with_kwargs=True))
        self.handles.append(self.written.register_forward_hook(lambda _, args, y: self._output(output, args, y)))

    def unhook(self) -> None:
        """Leave the model as it was."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _remember(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs[threading.get_ident()] = args[0] if args else kwargs["hidden_states"]

    def _output(self, output: Callable[[Site, Tensor, Tensor], Tensor], args: tuple[Any, ...], y: Tensor) -> Tensor:
        thread = threading.get_ident()
        if thread in self._inside:  # a delta calls the frozen part itself
            return y
        x = self._inputs.pop(thread, None)
        x = args[0] if x is None else x
        return self.through(output, x, y)

    def through(self, output: Callable[[Site, Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
        """``output(site, x, y)``, during which the frozen part itself may be called."""
        thread = threading.get_ident()
        self._inside.add(thread)
        try:
            return output(self, x, y)
        finally:
            self._inside.discard(thread)
