"""All tables and figures by name, in the order of the paper."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.drawing.exhibit import Exhibit
from polytask.paper import ablation, extensions, size_curves, sweeps, tables

EXHIBITS: Mapping[str, Exhibit] = {
    exhibit.name: exhibit
    for exhibit in (
        tables.TABLE_1,
        tables.TABLE_2,
        size_curves.TRADEOFF,
        size_curves.TASKS_TRADEOFF,
        size_curves.SQUAD,
        ablation.EXHIBIT,
        sweeps.INITIALISATION,
        sweeps.LEARNING_RATES,
        extensions.EXHIBIT,
    )
}
