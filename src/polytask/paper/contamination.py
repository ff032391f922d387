"""Which of the paper's tasks a backbone saw in its own training, as far as its authors say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from polytask.paper.ledger import Entry
from polytask.paper.wording import listed

SEEN: Mapping[str, frozenset[str]] = {
    # Its model card lists AllNLI (SNLI and MultiNLI), Quora Question Pairs and SQuAD 2.0 among the training data;
    # QNLI is made of SQuAD's questions and paragraphs.
    "all-MiniLM-L6-v2": frozenset({"MNLI-m", "MNLI-mm", "QQP", "QNLI", "squad"}),
}
"""By the last part of the backbone's name on the hub."""

ALIASES = {"minilm": "all-MiniLM-L6-v2"}


def backbone_in_words(entries: Iterable[Entry]) -> str:
    """The backbone's name without its folders; ``no backbone`` if none was used."""
    names = {str(entry.backbone["name"]) for entry in entries if entry.backbone["name"] is not None}
    return listed(sorted(Path(name).name if Path(name).is_absolute() else name for name in names)) or "no backbone"


def seen_by(entries: Iterable[Entry]) -> frozenset[str]:
    """The tasks that the backbone of these entries saw; empty if nothing is known of it."""
    names = {str(entry.backbone["name"]).rstrip("/").rpartition("/")[2] for entry in entries}
    return frozenset().union(*(SEEN.get(ALIASES.get(name, name), frozenset()) for name in names))
