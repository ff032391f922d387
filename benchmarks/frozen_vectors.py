"""Pooled vectors of texts on a bare backbone, each computed once: probes of many seeds and settings share them."""

from __future__ import annotations

import torch
from torch import Tensor

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.evaluation.linear_probe import LinearProbe
from polytask.inference.vectors import vectors_of


class FrozenVectors:
    """The vectors of texts, kept by text.

    Args:
        backbone: a frozen backbone.
        max_length: the most tokens of a text.
    """

    def __init__(self, backbone: Backbone, max_length: int) -> None:
        self.backbone, self.max_length = backbone, max_length
        self._known: dict[str, Tensor] = {}

    def of(self, rows: Rows) -> Tensor:
        """The vector of each row's text, ``[N, D]`` in fp64."""
        missing = [text for text in dict.fromkeys(rows.texts) if text not in self._known]
        if missing:
            vectors = vectors_of(self.backbone, encode(self.backbone.tokenizer, Rows(missing), self.max_length))
            self._known.update(zip(missing, vectors.double(), strict=True))
        return torch.stack([self._known[text] for text in rows.texts])


def logits_of(probe: LinearProbe, vectors: Tensor) -> Tensor:
    """The logits ``[N, K]`` of a probe for vectors ``[N, D]``."""
    return vectors @ torch.from_numpy(probe.weight).T + torch.from_numpy(probe.bias)
