"""The first step of a call: texts become token ids, each cut as its own adapter was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Cut, Encoded, encode, joined, usual_stride
from polytask.data.task import Kind
from polytask.inference.inputs import Text, as_rows


def cut_of(kind: Kind, recipe: Mapping[str, Any], backbone: Backbone, max_length: int | None = None) -> Cut:
    """How an adapter of this kind and recipe has its texts cut.

    Args:
        kind: the adapter's kind of task.
        recipe: the adapter's recipe, as JSON values.
        backbone: no text is longer than it reads.
        max_length: tokens of a text, in place of the recipe's.
    """
    limit = min(max_length or int(recipe.get("max_length", backbone.max_length)), backbone.max_length)
    if kind != "span":
        return limit, str(recipe.get("long", "truncate")), None
    usual = usual_stride(limit)
    stride = int(recipe.get("stride", usual))
    return limit, "truncate", min(stride, usual) if max_length else stride


def encoded_texts(backbone: Backbone, texts: Sequence[Text], cuts: Sequence[Cut]) -> Encoded:
    """Tokenize each text with its own cut, whatever the others have."""
    alike: dict[tuple[Cut, bool], list[int]] = {}
    for row, (text, cut) in enumerate(zip(texts, cuts, strict=True)):
        alike.setdefault((cut, isinstance(text, tuple | list)), []).append(row)
    parts = [
        (encode(backbone.tokenizer, as_rows([texts[row] for row in rows]), *cut), rows)
        for (cut, _), rows in alike.items()
    ]
    return parts[0][0] if len(parts) == 1 else joined(parts)
