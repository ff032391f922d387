"""Holds out validation rows, stratified by class and with equal texts on one side.

The split depends only on the seed and the rows: rows are ordered by a hash, not by a random generator, so every
machine and version makes the same split. Rows of a class with equal texts stay together as long as the class has
other texts, so that validation texts were not trained on.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from polytask.data.task import Kind, Rows, Target
from polytask.errors import RecipeError

MAX_HELD_OUT = 2000
"""More validation rows cost time and hardly narrow the confidence interval of the score."""
SMALL_HELD_OUT = 32
"""Up to this many rows may exceed twice the requested share, so that each class has a validation row."""


def hold_out(rows: Rows, kind: Kind, *, share: float = 0.1, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split rows into training and validation rows.

    A class with at least two rows has at least one row on each side; a class with one row is only trained on. If this
    would hold out more than twice the share, because there are many small classes, some classes have no validation
    rows. A multi-label row belongs to the class of its rarest label; a regression is one class. If keeping equal texts
    together would leave a single target to train on, rows are held out one by one.

    Args:
        rows: rows with targets.
        kind: the kind of task.
        share: the fraction of each class to hold out, in (0, 1); reduced so that at most ``MAX_HELD_OUT`` rows are
            held out.
        seed: another seed holds out other rows.

    Returns:
        The indices of the training rows and of the validation rows, both ascending.

    Raises:
        RecipeError: the share is not in (0, 1).
    """
    check_share(share)
    assert rows.targets is not None
    share = min(share, MAX_HELD_OUT / len(rows))
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, member_of in enumerate(_classes(rows.targets, kind)):
        members[member_of].append(row)
    by_class = [_hold_out_of_class(rows, of_class, share, seed) for of_class in members.values()]
    held_out = set(_limit_small_classes(by_class, round(share * len(rows)), seed))
    is_alike = len({target for row, target in enumerate(rows.targets) if row not in held_out}) < 2
    if is_alike and len({*rows.targets}) > 1:
        held_out = set(_choose_groups([[row] for row in range(len(rows))], share, seed))
    return [row for row in range(len(rows)) if row not in held_out], sorted(held_out)


def _classes(targets: Sequence[Target], kind: Kind) -> Sequence[Hashable]:
    if kind == "classification":
        return targets
    if kind == "multilabel":
        counts = Counter(label for target in targets for label in target)
        return [min(target, key=lambda label: (counts[label], label), default=None) for target in targets]
    return [None] * len(targets)


def hold_out_groups(
    groups: Sequence[Hashable], *, share: float = 0.1, seed: int = 0, most: int = MAX_HELD_OUT
) -> tuple[list[int], list[int]]:
    """Split rows into training and validation rows so that no group, such as an article, is on both sides.

    If all rows are in one group, they are split one by one. A single row is only trained on.

    Args:
        groups: the group of each row.
        share: the fraction of rows to hold out, in (0, 1).
        seed: another seed holds out other groups.
        most: hold out at most this many rows.

    Returns:
        The indices of the training rows and of the validation rows, both ascending.

    Raises:
        RecipeError: the share is not in (0, 1).
    """
    check_share(share)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    held_out = set(_choose_groups(list(members.values()), min(share, most / len(groups)), seed))
    return [row for row in range(len(groups)) if row not in held_out], sorted(held_out)


def sample_rows(num_rows: int, limit: int, *, seed: int = 0) -> list[int]:
    """Return the indices of at most ``limit`` of ``num_rows`` rows, sampled with ``seed``, ascending."""
    return sorted(sorted(range(num_rows), key=lambda row: _sort_key(seed, -1 - row))[:limit])


def check_share(share: float) -> None:
    """Check the share of rows to hold out.

    Raises:
        RecipeError: it is not in (0, 1).
    """
    if not 0 < share < 1:
        raise RecipeError(f"the share of rows held out for validation is {share}. It must be between 0 and 1")


def _hold_out_of_class(rows: Rows, of_class: list[int], share: float, seed: int) -> list[int]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in of_class:
        groups[(rows.texts[row], "" if rows.pairs is None else rows.pairs[row])].append(row)
    return _choose_groups(list(groups.values()), share, seed)


def _choose_groups(groups: list[list[int]], share: float, seed: int) -> list[int]:
    """Choose whole groups, in hash order, up to a share of all rows; single rows if there is one group."""
    rows = [row for group in groups for row in group]
    wanted = max(1, round(share * len(rows)))
    alike = groups if len(groups) > 1 else [[row] for row in rows]
    alike.sort(key=lambda group: _sort_key(seed, group[0]))
    chosen: list[int] = []
    for group in alike[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen.extend(group)
    return chosen if chosen or len(alike) == 1 else min(alike, key=len)


def _limit_small_classes(by_class: list[list[int]], wanted: int, seed: int) -> list[int]:
    """Return the held-out rows of all classes, or of the largest ones if all are more than twice ``wanted``."""
    given = [row for rows in by_class for row in rows]
    if len(given) <= max(2 * wanted, SMALL_HELD_OUT):
        return given
    kept: list[int] = []
    for rows in sorted(filter(None, by_class), key=lambda rows: (-len(rows), _sort_key(seed, rows[0]))):
        if len(kept) < max(wanted, 1):
            kept += rows
    return kept


def _sort_key(seed: int, row: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{row}".encode(), digest_size=8).digest()
