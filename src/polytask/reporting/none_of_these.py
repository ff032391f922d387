"""How well an adapter tells texts of none of its labels."""

from __future__ import annotations

from polytask.drawing.table import text_table
from polytask.evaluation.none_of_these import none_measured
from polytask.reporting.answered import Answered
from polytask.reporting.page import Section, Tile
from polytask.reporting.wording import cut, named, number, ranged, row_or_line, where
from polytask.wording import counted

MAX_ROWS = 12


def none_section(answered: Answered) -> Section | None:
    """False alarms, the share of rows without a right label that is found, and the surest answers to the others."""
    if not answered.called_none and answered.unlike is None:
        return None
    rows, predictions = answered.unlike or (answered.rows.take([]), ())
    shares = none_measured(answered.called_none, [own.none for own in predictions])
    missed = [(max((own.probs or {}).values()), at) for at, own in enumerate(predictions) if not own.none]
    surest = [at for _, at in sorted(missed, key=lambda own: (-own[0], own[1]))[:MAX_ROWS]]
    cells = [
        (
            f"{number(rows, at):,}",
            cut(rows.texts[at], 220),
            named(predictions[at].likeliest or "", 28),
            f"{max((predictions[at].probs or {}).values()):.2f}",
        )
        for at in surest
    ]
    names = {"false_alarms": "of the rows with a label are called none of these", "found": "of the others are found"}
    tiles = [Tile(ranged(*own), names[name]) for name, own in shares.items() if own is not None]
    headings = (row_or_line(rows), "text", "answered", "probability")
    table = text_table("Not found, the surest first", headings, cells, (0, 3))
    lead = f"{counted(len(rows), 'row')} {'has' if len(rows) == 1 else 'have'} none of the labels."
    data = {"rows": len(rows), **shares, "not_found": [where(rows, at) for at in surest]}
    tables = (table,) if cells else ()
    return Section("none_of_these", "None of these", lead if len(rows) else "", tuple(tiles), tables=tables, data=data)
