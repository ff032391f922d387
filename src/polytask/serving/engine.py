"""Runs rows of any mix of tasks through the backbone in one forward pass.

A row is a tokenized text and the name of the version that answers it, ``task@version``. Names are resolved when a
request arrives (``catalog``), so a request keeps its version whatever happens to the store meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.adapters.store import Entry, Store
from polytask.backbones.backbone import Backbone
from polytask.data.batches import collate
from polytask.data.encoding import Encoded, encode, joined
from polytask.data.task import Rows
from polytask.errors import PolytaskError
from polytask.evaluation.decision import DecisionOptions
from polytask.inference.cutting import cut_of
from polytask.inference.inputs import Text
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.inference.scoring import scores_of

PROBE_TEXT, PROBE_TOKENS = "Is anybody there?", 32


DEFAULT_OPTIONS = DecisionOptions()


@dataclass(frozen=True)
class Row:
    """A tokenized text, or its windows, for one adapter."""

    encoded: Encoded
    name: str
    options: DecisionOptions = DEFAULT_OPTIONS

    @property
    def num_tokens(self) -> int:
        """Tokens of all windows."""
        return sum(self.encoded.lengths)


class Engine(MultiTask):
    """A ``MultiTask`` that takes resolved names only, and reads the store only to load."""

    def __init__(self, backbone: Backbone, store: Store, *, batch_tokens: int, max_length: int | None = None) -> None:
        super().__init__(backbone, store, max_length=max_length)
        self.batch_tokens = batch_tokens

    def _name(self, reference: str) -> str:
        return reference

    def max_tokens(self, entry: Entry) -> int | None:
        """The number of tokens at which an adapter truncates a text; None if it reads all of it in windows."""
        header = entry.header
        limit, long, stride = cut_of(header.head.kind, header.recipe, self.backbone, self.max_length)
        return limit if long == "truncate" and stride is None else None

    def num_bytes(self, name: str) -> int:
        """Memory that a loaded adapter takes."""
        return sum(parameter.nbytes for parameter in self.adapters[name].tree.parameters())

    def tokenize(self, text: Text, names: Sequence[str], options: DecisionOptions = DEFAULT_OPTIONS) -> list[Row]:
        """A row of the text for each adapter; adapters with the same tokenizer settings share the tokens."""
        is_pair = isinstance(text, tuple | list)
        rows = Rows([text[0]], [text[1]]) if is_pair else Rows([str(text)])
        cuts = [self._cut(self.adapters[name]) for name in names]
        encoded = {cut: encode(self.backbone.tokenizer, rows, *cut) for cut in dict.fromkeys(cuts)}
        return [Row(encoded[cut], name, options) for cut, name in zip(cuts, names, strict=True)]

    def answer(self, rows: Sequence[Row]) -> list[Prediction | Exception]:
        """One prediction for each row; an error in place of one that is not finite.

        Raises:
            Exception: the forward pass failed; any of the rows may be the cause.
        """
        names = [row.name for row in rows]
        with self.adapters.in_use(names) as adapters:
            encoded = joined([(row.encoded, [at]) for at, row in enumerate(rows)])
            scores = scores_of(self.backbone, self.adapters.attached, adapters, encoded, names, self.batch_tokens)
        return [_prediction(row, adapters[row.name], own) for row, own in zip(rows, scores, strict=True)]

    @torch.inference_mode()
    def probe(self) -> None:
        """Run a forward pass of the bare backbone.

        Raises:
            RuntimeError: its output is not finite.
        """
        encoded = encode(self.backbone.tokenizer, Rows([PROBE_TEXT]), min(PROBE_TOKENS, self.backbone.max_length))
        batch = collate([(encoded, [0])], self.backbone.tokenizer.pad_token_id or 0, self.backbone.device)
        with self.backbone.one_pass(training=False):
            _, pooled = encode_batch(self.backbone, batch)
        if not bool(torch.isfinite(pooled).all()):
            raise RuntimeError("the backbone's output is not finite")


def _prediction(row: Row, live: LoadedAdapter, scores: object) -> Prediction | Exception:
    try:
        prediction = Prediction.of(row.name.partition("@")[0], row.options.apply(live.decision), scores)
    except PolytaskError as error:
        return RuntimeError(str(error))
    return prediction if is_finite(prediction) else RuntimeError(f"the output of {row.name} is not finite")


def is_finite(prediction: Prediction) -> bool:
    """Whether all numbers of a prediction are finite."""
    probs: Mapping[str, float] = prediction.probs or {}
    numbers = [*probs.values(), *([] if prediction.score is None else [prediction.score])]
    return all(map(math.isfinite, numbers))
