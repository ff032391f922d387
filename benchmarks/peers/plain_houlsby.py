"""Houlsby adapters as anyone would write them: two torch modules per layer of transformers' BERT. Norms stay frozen."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """``y + up(gelu(down(y)))``."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.normal_(self.down.weight, std=1e-2)
        nn.init.normal_(self.up.weight, std=1e-2)

    def forward(self, y: Tensor) -> Tensor:
        """``[B, T, D]`` to ``[B, T, D]``."""
        out: Tensor = y + self.up(nn.functional.gelu(self.down(y)))
        return out


def with_houlsby(model: Any, size: int = 64) -> nn.Module:
    """A BERT classifier with a bottleneck after the dropout of each sub-layer; all else but the head is frozen."""
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    width = model.config.hidden_size
    for layer in model.bert.encoder.layer:
        for output in (layer.attention.output, layer.output):
            output.dropout = nn.Sequential(output.dropout, Bottleneck(width, size))
    return model  # type: ignore[no-any-return]
