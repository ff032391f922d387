"""The engine: rows of any tasks, answered in one forward pass.

A row is a text already cut into tokens and the name of the adapter that answers it, ``task@version``. Names are
resolved when a request arrives (``catalog``), so that work goes on with the version it began with, whatever becomes of
the store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polytask.adapters.module import encode_batch
from polytask.adapters.store import Entry, Store
from polytask.backbones.backbone import Backbone
from polytask.data.batches import collate
from polytask.data.encoding import Cut, Encoded, encode, joined
from polytask.data.task import Rows
from polytask.errors import PolytaskError
from polytask.inference.inputs import Text
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.inference.scoring import scores_of

PROBE = "Is anybody there?"


@dataclass(frozen=True)
class Row:
    """A text, or its windows, as one adapter reads it."""

    encoded: Encoded
    name: str

    @property
    def num_tokens(self) -> int:
        """Tokens of all its windows."""
        return sum(self.encoded.lengths)


class Engine(MultiTask):
    """A ``MultiTask`` whose references are the names of versions; it looks at the store to load, and not otherwise."""

    def __init__(self, backbone: Backbone, store: Store, *, batch_tokens: int, max_length: int | None = None) -> None:
        super().__init__(backbone, store, max_length=max_length)
        self.batch_tokens = batch_tokens

    def _name(self, reference: str) -> str:
        return reference

    def limit(self, entry: Entry) -> int | None:
        """The tokens that an adapter reads of a text; None where it reads all of it."""
        limit, long, stride = self._cut(entry.header.head.kind, entry.header.recipe)
        return limit if long == "truncate" and stride is None else None

    def num_bytes(self, name: str) -> int:
        """What a loaded adapter takes in memory."""
        return sum(parameter.nbytes for parameter in self._adapter(name).tree.parameters())

    def rows(self, text: Text, names: Sequence[str]) -> list[Row]:
        """A text as each of these adapters reads it, cut into tokens once for all that read it in the same way."""
        is_pair = isinstance(text, tuple | list)
        rows = Rows([text[0]], [text[1]]) if is_pair else Rows([str(text)])
        cuts: dict[Cut, Encoded] = {}
        for name in names:
            cut = self._cuts[name]
            if cut not in cuts:
                cuts[cut] = encode(self.backbone.tokenizer, rows, *cut)
        return [Row(cuts[self._cuts[name]], name) for name in names]

    def answer(self, rows: Sequence[Row]) -> list[Prediction | Exception]:
        """One answer a row; an error in place of one that is not a number.

        Raises:
            Exception: the forward pass failed; any of the rows may be why.
        """
        names = [row.name for row in rows]
        with self._used(dict.fromkeys(names)):
            adapters = {name: self._adapter(name) for name in dict.fromkeys(names)}
            encoded = joined([(row.encoded, [at]) for at, row in enumerate(rows)])
            scores = scores_of(self.backbone, self.attached, adapters, encoded, names, self.batch_tokens)
        return [self._checked(name, adapters[name], row) for name, row in zip(names, scores, strict=True)]

    def _checked(self, name: str, live: Any, scores: Any) -> Prediction | Exception:
        try:
            prediction = Prediction.of(name.partition("@")[0], live.decision, scores)
        except PolytaskError as error:
            return RuntimeError(str(error))
        return prediction if is_finite(prediction) else RuntimeError(f"{name} answers with what is not a number")

    @torch.inference_mode()
    def probe(self) -> None:
        """A real forward pass of the bare backbone.

        Raises:
            RuntimeError: what came out is not a number.
        """
        encoded = encode(self.backbone.tokenizer, Rows([PROBE]), min(32, self.backbone.max_length))
        batch = collate([(encoded, [0])], self.backbone.tokenizer.pad_token_id or 0, self.backbone.device)
        with self.backbone.one_pass(training=False):
            _, pooled = encode_batch(self.backbone, batch)
        if not bool(torch.isfinite(pooled).all()):
            raise RuntimeError("the backbone answers with what is not a number")


def is_finite(prediction: Prediction) -> bool:
    """Whether all of its numbers are."""
    probs: Mapping[str, float] = prediction.probs or {}
    numbers = [*probs.values(), *([] if prediction.score is None else [prediction.score])]
    return all(map(math.isfinite, numbers))
