"""The supported architectures: a row of data for each, and a file for each family.

To add one, write a row (CONTRIBUTING.md): where its sites are, its kind of norms, how it pools. The forward pass is
transformers' own; there is no modelling code here.
"""

from __future__ import annotations

import difflib

from polytask.architectures.albert import ALBERT
from polytask.architectures.bert import BERT_FAMILY
from polytask.architectures.deberta import DEBERTA_FAMILY
from polytask.architectures.gte import GTE_FAMILY
from polytask.architectures.llama import LLAMA_FAMILY
from polytask.architectures.modernbert import MODERNBERT
from polytask.architectures.places import Located, locate
from polytask.architectures.row import HEAD_ACTIVATIONS, POOLINGS, Architecture, Fused, HeadLayer, Pooling
from polytask.errors import UnsupportedArchitecture

ARCHITECTURES: dict[str, Architecture] = {
    **BERT_FAMILY,
    **MODERNBERT,
    **DEBERTA_FAMILY,
    **LLAMA_FAMILY,
    **ALBERT,
    **GTE_FAMILY,
}
LIKE_BERT = Architecture("encoder.layer", "embeddings.LayerNorm", BERT_FAMILY["bert"].sites)
"""The row that is used for an unknown architecture when only an adapter's header is read."""


def architecture_of(model_type: str) -> Architecture:
    """The row of a model type.

    Raises:
        UnsupportedArchitecture: there is none; names the closest matches.
    """
    if model_type not in ARCHITECTURES:
        near = difflib.get_close_matches(model_type, ARCHITECTURES, n=3, cutoff=0.5)
        raise UnsupportedArchitecture(model_type, ARCHITECTURES, near)
    return ARCHITECTURES[model_type]


__all__ = [
    "ARCHITECTURES",
    "HEAD_ACTIVATIONS",
    "LIKE_BERT",
    "POOLINGS",
    "Architecture",
    "Fused",
    "HeadLayer",
    "Located",
    "Pooling",
    "architecture_of",
    "locate",
]
