"""Where a batch enters a transformer whose lower layers have been computed already."""

from __future__ import annotations

from typing import NamedTuple


class EntryPoint(NamedTuple):
    """Before a layer, or with ``is_after_attention`` after its attention and before any site on the attention's output.

    Entry points compare by depth. The states that enter are ``[B, T, D]``; after attention they are ``[B, T, 2D]``, the
    layer's input and its attention branch.
    """

    layer: int = 0
    is_after_attention: bool = False


FIRST = EntryPoint()
