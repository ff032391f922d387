"""Computes the pooled vectors of texts, the input of heads."""

from __future__ import annotations

import torch
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.backbones.backbone import Backbone
from polytask.data.batches import budget_batches, collate
from polytask.data.encoding import Encoded
from polytask.inference.scoring import most_tokens
from polytask.routing.route import Route


@torch.inference_mode()
def vectors_of(
    backbone: Backbone, encoded: Encoded, adapter: tuple[Attached, str, LoadedAdapter] | None = None
) -> Tensor:
    """The pooled vector of each text, or window of a text, ``[N, D]`` in fp32 on the CPU.

    With an adapter it is the input of its head: with late pooling, the mean of the outputs of the head's layers.

    Args:
        backbone: a frozen backbone.
        encoded: the texts.
        adapter: the sites, the name under which an adapter is attached to them, and the adapter; None for the bare
            backbone.
    """
    vectors = torch.empty(len(encoded), backbone.hidden)
    for texts in budget_batches(encoded.lengths, most_tokens(backbone.device)):
        batch = collate([(encoded, texts)], backbone.tokenizer.pad_token_id or 0, backbone.device)
        with backbone.one_pass(training=False):
            if adapter is None:
                _, pooled = encode_batch(backbone, batch)
            else:
                attached, name, live = adapter
                with attached.routed(Route.of(name if live.deltas else None for _ in texts)):
                    hidden, pooled = encode_batch(backbone, batch, live)
                pooled = live.head.input_of(hidden, pooled, batch.mask)
        vectors[torch.tensor(texts)] = pooled.float().cpu()
    return vectors
