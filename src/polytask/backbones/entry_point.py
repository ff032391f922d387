"""Where a batch enters a transformer, when what lies below is known already."""

from __future__ import annotations

from typing import NamedTuple


class EntryPoint(NamedTuple):
    """Before ``layer``; with ``is_after_attention`` behind its attention, whose output no site has seen yet.

    Entries compare as they lie above each other. What enters is ``[B, T, D]``, behind attention ``[B, T, 2D]``: what
    went into the layer, and what its attention made of it.
    """

    layer: int = 0
    is_after_attention: bool = False


FIRST = EntryPoint()
