"""Which tasks of the suites a backbone saw in its own training, as far as its authors say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SEEN: Mapping[str, frozenset[str]] = {
    # Its model card lists AllNLI (SNLI and MultiNLI), Quora Question Pairs and SQuAD 2.0 among the training data;
    # QNLI is made of SQuAD's questions and paragraphs.
    "all-MiniLM-L6-v2": frozenset({"MNLI-m", "MNLI-mm", "QQP", "QNLI", "squad"}),
}
"""By the last part of the backbone's name on the hub."""

ALIASES = {"minilm": "all-MiniLM-L6-v2"}


def tasks_seen_by(backbones: Iterable[str]) -> frozenset[str]:
    """The tasks that any of the backbones of these names saw; empty if nothing is known of them."""
    names = {name.rstrip("/").rpartition("/")[2] for name in backbones}
    return frozenset().union(*(SEEN.get(ALIASES.get(name, name), frozenset()) for name in names))
