"""Runs a transformer: token ids in, hidden states and one pooled vector a text out.

The model's own forward pass runs (``partial_pass``), from the embeddings or from a layer whose input is known.
Layers with a fast version (``fast.layer``) get packed texts without padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from polytask.architectures import Architecture, Pooling
from polytask.backbones.entry_point import FIRST, EntryPoint
from polytask.backbones.fast.attention import always_masked
from polytask.backbones.fast.layer import PROBS, Attached, FastLayer, fast_layer, fast_layer_of, packed_sites
from polytask.backbones.partial_pass import PartialPass, run_partially
from polytask.dropout import KeyedDropoutSource
from polytask.errors import RouteError
from polytask.packing import Packing


class Encoder(nn.Module):
    """A transformer with its pooling: token ids in, hidden states and one vector per text out."""

    def __init__(
        self,
        model: nn.Module,
        row: Architecture,
        pooling: Pooling,
        takes_types: bool,
        dropout_source: KeyedDropoutSource,
    ) -> None:
        super().__init__()
        self.model, self.layers, self.pooling, self.takes_types = model, row.layers, pooling, takes_types
        self.final_norm, self.dropout_source = row.final_norm, dropout_source
        self.first_position = row.first_position_of(model.config)

    def forward(
        self,
        ids: Tensor,
        mask: Tensor,
        types: Tensor | None,
        states: Tensor | None = None,
        entry: EntryPoint = FIRST,
        host_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            ids: token ids, ``[B, T]``.
            mask: 1 on tokens and 0 on padding, ``[B, T]``.
            types: 0 for the first text and 1 for the second, ``[B, T]``; ignored by models without token types.
            states: the hidden states at ``entry``, from ``prefix_states``; None to start at the embeddings.
            entry: where ``states`` enter the model.
            host_mask: ``mask`` on the host (default: copied from ``mask``, for which the host waits for a GPU).

        Returns:
            The last layer's output ``[B, T, D]``, zeros for padding, and one vector per text ``[B, D]``.
        """
        packing = self._packing(mask, host_mask)
        hidden = self._run_layers(
            ids, mask, types, slice(entry.layer, None), packing, states, is_after_attention=entry.is_after_attention
        )
        return hidden, self.pool(hidden, mask)

    def prefix_states(
        self,
        ids: Tensor,
        mask: Tensor,
        types: Tensor | None,
        entry: EntryPoint,
        *,
        keep_padding: bool = False,
        host_mask: Tensor | None = None,
    ) -> Tensor:
        """The hidden states at ``entry``, to be passed to ``forward``.

        Args:
            ids, mask, types, host_mask: as in ``forward``.
            entry: where they will enter the model.
            keep_padding: compute padding, too, so that the operations depend on the shape of ``ids`` only.

        Returns:
            ``[B, T, D]``; for an entry after attention ``[B, T, 2D]``, the layer's input and its attention branch.
        """
        packing = self._packing(mask, host_mask, keep_padding)
        hidden = self._run_layers(ids, mask, types, slice(entry.layer), packing)
        fast = self._layer_entered_after_attention(entry)
        if fast is None:
            return hidden
        x = packing.pack(hidden)
        return packing.unpack(torch.cat([x, fast.attention_branch(x, packing)], dim=-1))

    def usable_entry(
        self, entry: EntryPoint, attached: Attached | None, names: Collection[str | None] | None = None
    ) -> EntryPoint:
        """``entry``, or the entry before its layer if a batch of these adapters cannot enter after its attention.

        Args:
            entry: where the batch would enter.
            attached: the adapters on the model.
            names: those of the batch (default: all).
        """
        fast = self._layer_entered_after_attention(entry)
        can_enter = fast is not None and fast.device.type == "cpu" and fast.supports_adapters(attached, names)
        return entry if can_enter else EntryPoint(entry.layer)

    def undropped_site(self, entry: EntryPoint) -> str | None:
        """The dropout site that is skipped in training with this entry: the attention probabilities of its layer."""
        fast = self._layer_entered_after_attention(entry)
        return None if fast is None else str(fast.drops[PROBS].site)

    def _layer_entered_after_attention(self, entry: EntryPoint) -> FastLayer | None:
        """The layer that is entered after its attention; None if the entry is before a layer."""
        return fast_layer(self.model, self.layers, entry.layer) if entry.is_after_attention else None

    def _packing(self, mask: Tensor, host_mask: Tensor | None, keep_padding: bool = False) -> Packing:
        """The packing of a batch; the rows of each job are a run."""
        runs = [key.rows.stop - key.rows.start for key in self.dropout_source.keys]
        host_mask = mask.cpu() if host_mask is None else host_mask
        return Packing(host_mask, runs, keep_padding=keep_padding, device=mask.device)

    def _run_layers(
        self,
        ids: Tensor,
        mask: Tensor,
        types: Tensor | None,
        layers: slice,
        packing: Packing,
        states: Tensor | None = None,
        is_after_attention: bool = False,
    ) -> Tensor:
        """The hidden states after these layers, ``[B, T, D]``; fast layers run on packed texts, others on padded ones.

        ``states`` are the input of the first of them: ``[B, T, D]``, or with ``is_after_attention`` ``[B, T, 2D]``.
        """
        hidden, number = states, layers.start or 0
        layers_of_model = list(self.model.get_submodule(self.layers).children())
        stop = len(layers_of_model) if layers.stop is None else layers.stop
        if number == stop and layers.stop is None:
            return self._run_padded(ids, mask, types, PartialPass(number, None, hidden), packing.keep_padding)
        for packs, group in itertools.groupby(layers_of_model[layers], lambda layer: _uses_packing(layer, len(mask))):
            same = list(group)
            start, number = number, number + len(same)
            if not packs:
                if is_after_attention:
                    raise RouteError("adapters of two owners are active on one backbone: detach those of one")
                end = layers.stop if number == stop else number
                hidden = self._run_padded(ids, mask, types, PartialPass(start, end, hidden), packing.keep_padding)
                continue
            with packed_sites(same[0], packing):
                fast = fast_layer_of(same[0])
                assert fast is not None
                if hidden is None:
                    tokens = self._embed_packed(ids, types, packing, fast.embeds_positions)
                else:
                    tokens = packing.pack(hidden)
                tokens, *branch = tokens.chunk(2, dim=-1) if is_after_attention else (tokens,)
                for layer in same:
                    tokens, branch = layer(tokens, packing, *branch), []
                is_after_attention = False
                if number == stop and layers.stop is None and self.final_norm is not None:
                    tokens = self.model.get_submodule(self.final_norm)(tokens)
            hidden = packing.unpack(tokens)
        return self._embed(ids, types) if hidden is None else hidden

    def _embed(self, ids: Tensor, types: Tensor | None, **places: Tensor) -> Tensor:
        """The input of the first layer, ``[B, T, D]``."""
        embeddings, project = self.model.embeddings, getattr(self.model, "embeddings_project", None)
        hidden: Tensor = embeddings(input_ids=ids, **self._types(types), **places)  # type: ignore[operator]
        return hidden if project is None else project(hidden)

    def _embed_packed(self, ids: Tensor, types: Tensor | None, packing: Packing, embeds_positions: bool) -> Tensor:
        """The input of the first layer, packed, ``[N, 1, D]``."""
        if not embeds_positions:
            return self._embed(packing.pack_ids(ids), types if types is None else packing.pack_ids(types))
        types = None if types is None else packing.pack_ids(types)
        return self._embed(packing.pack_ids(ids), types, position_ids=packing.pack_ids(self._positions(ids)))

    def _positions(self, ids: Tensor) -> Tensor:
        """The position of each token, ``[B, T]``; in RoBERTa's family and MPNet a padding token has one of its own."""
        if self.first_position == 0:
            return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        padding = self.first_position - 1
        is_token = (ids != padding).long()
        return is_token.cumsum(1) * is_token + padding

    def _run_padded(
        self, ids: Tensor, mask: Tensor, types: Tensor | None, partial: PartialPass, keep_padding: bool
    ) -> Tensor:
        """``[B, T, D]``, computed by the Hugging Face model on padded texts.

        On a GPU attention always gets a mask: to find out whether it hides something, the host would wait.
        """
        with always_masked() if keep_padding or mask.device.type != "cpu" else nullcontext():
            hidden = run_partially(self.model, partial, input_ids=ids, attention_mask=mask, **self._types(types))
        return hidden if keep_padding else hidden.masked_fill(mask[:, :, None] == 0, 0)

    def _types(self, types: Tensor | None) -> dict[str, Tensor]:
        return {"token_type_ids": types} if self.takes_types and types is not None else {}

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """One vector per text: ``[B, T, D]`` to ``[B, D]``; if late, for heads without layers."""
        if self.pooling in ("mean", "late"):
            return mean_of_tokens(hidden, mask)
        if self.pooling == "pooler":
            vectors: Tensor = self.model.pooler(hidden)  # type: ignore[operator]
            return vectors
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, _last(mask) if self.pooling == "last" else _first(mask)]


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over each row's tokens: ``[B, T, D]`` to ``[B, D]``; ``mask`` is 0 on padding, ``[B, T]``."""
    weights = (mask / mask.sum(dim=1, keepdim=True)).to(states.dtype)
    return torch.bmm(weights[:, None, :], states).squeeze(1)


def _first(mask: Tensor) -> Tensor:
    """The position of each row's first token, ``[B]``."""
    return mask.argmax(dim=1)


def _last(mask: Tensor) -> Tensor:
    """The position of each row's last token, ``[B]``."""
    return mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)


def _uses_packing(layer: nn.Module, num_rows: int) -> bool:
    """Whether a layer has a fast version that can run the batch in flight."""
    fast = fast_layer_of(layer)
    return fast is not None and fast.is_usable(num_rows)
