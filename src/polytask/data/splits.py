"""Which rows are held out for validation when no file of them is given.

The choice depends on the seed and the rows alone, on every machine and in every version: rows are put in the
order of a hash, not of a generator. Each class gives its share. Rows with the same text stay on one side as
long as a class has other texts, so that validation does not ask for what was trained on.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from polytask.data.task import Kind, Rows, Target
from polytask.errors import RecipeError

MOST_HELD_OUT = 2000
"""More rows than this make validation slower without making its score much surer."""
FEW_HELD_OUT = 32
"""So few rows may be more than twice the share that is asked for, so that each class has one."""


def hold_out(rows: Rows, kind: Kind, *, share: float = 0.1, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split into the rows to train on and the rows to validate on, each in the order of the file.

    Every class of at least two rows gives at least one and keeps at least one; a class of one row is only trained
    on. Where classes are so many and small that this would be more than twice the share, some of them give none. A row
    of a multi-label task counts to the rarest of its labels; a regression is one class. Where whole texts on one side
    would leave one target to train on, rows are held out one by one.

    Args:
        rows: rows with targets.
        kind: what the targets are.
        share: the part of each class to hold out, in (0, 1); fewer where it would be over ``MOST_HELD_OUT`` in all.
        seed: another seed holds out other rows.

    Raises:
        RecipeError: the share is not in (0, 1).
    """
    check_share(share)
    assert rows.targets is not None
    share = min(share, MOST_HELD_OUT / len(rows))
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, member_of in enumerate(_classes(rows.targets, kind)):
        members[member_of].append(row)
    by_class = [_held_out(rows, of_class, share, seed) for of_class in members.values()]
    held_out = set(_at_most(by_class, round(share * len(rows)), seed))
    is_alike = len({target for row, target in enumerate(rows.targets) if row not in held_out}) < 2
    if is_alike and len({*rows.targets}) > 1:
        held_out = set(_chosen([[row] for row in range(len(rows))], share, seed))
    return [row for row in range(len(rows)) if row not in held_out], sorted(held_out)


def _classes(targets: Sequence[Target], kind: Kind) -> Sequence[Hashable]:
    if kind == "classification":
        return targets
    if kind == "multilabel":
        counts = Counter(label for target in targets for label in target)
        return [min(target, key=lambda label: (counts[label], label), default=None) for target in targets]
    return [None] * len(targets)


def hold_out_groups(
    groups: Sequence[Hashable], *, share: float = 0.1, seed: int = 0, most: int = MOST_HELD_OUT
) -> tuple[list[int], list[int]]:
    """Split rows so that none of a group, an article say, is on both sides.

    Where all rows are of one group they are split nonetheless, row by row. One row is only trained on.

    Args:
        groups: of each row the group it belongs to.
        share: the part of the rows to hold out, in (0, 1); fewer where it would be over ``most``.
        seed: another seed holds out other groups.

    Raises:
        RecipeError: the share is not in (0, 1).
    """
    check_share(share)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    held_out = set(_chosen(list(members.values()), min(share, most / len(groups)), seed))
    return [row for row in range(len(groups)) if row not in held_out], sorted(held_out)


def drawn(num_rows: int, limit: int, *, seed: int = 0) -> list[int]:
    """``limit`` of so many rows in their order, others with another seed."""
    return sorted(sorted(range(num_rows), key=lambda row: _order(seed, -1 - row))[:limit])


def check_share(share: float) -> None:
    """Refuse a share of rows to hold out that is none.

    Raises:
        RecipeError: it is not in (0, 1).
    """
    if not 0 < share < 1:
        raise RecipeError(f"the share of rows held out for validation is {share}. It must lie between 0 and 1")


def _held_out(rows: Rows, of_class: list[int], share: float, seed: int) -> list[int]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in of_class:
        groups[(rows.texts[row], "" if rows.pairs is None else rows.pairs[row])].append(row)
    return _chosen(list(groups.values()), share, seed)


def _chosen(groups: list[list[int]], share: float, seed: int) -> list[int]:
    """Whole groups that come near to a share of all rows, in the order of a hash; single rows if there is one group."""
    rows = [row for group in groups for row in group]
    wanted = max(1, round(share * len(rows)))
    alike = groups if len(groups) > 1 else [[row] for row in rows]
    alike.sort(key=lambda group: _order(seed, group[0]))
    chosen: list[int] = []
    for group in alike[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen.extend(group)
    return chosen if chosen or len(alike) == 1 else min(alike, key=len)


def _at_most(by_class: list[list[int]], wanted: int, seed: int) -> list[int]:
    """All rows that the classes give; those of some classes only where they are more than twice what is wanted."""
    given = [row for rows in by_class for row in rows]
    if len(given) <= max(2 * wanted, FEW_HELD_OUT):
        return given
    kept: list[int] = []
    for rows in sorted(filter(None, by_class), key=lambda rows: (-len(rows), _order(seed, rows[0]))):
        if len(kept) < max(wanted, 1):
            kept += rows
    return kept


def _order(seed: int, row: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{row}".encode(), digest_size=8).digest()
