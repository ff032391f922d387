"""All tables and figures by name, in the order of the paper."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.paper import ablation, extensions, initialisation, learning_rates, squad_size, table1, table2, tradeoff
from polytask.paper.exhibit import Exhibit

EXHIBITS: Mapping[str, Exhibit] = {
    exhibit.name: exhibit
    for exhibit in (
        table1.EXHIBIT,
        table2.EXHIBIT,
        tradeoff.EXHIBIT,
        tradeoff.TASKS_EXHIBIT,
        squad_size.EXHIBIT,
        ablation.EXHIBIT,
        initialisation.EXHIBIT,
        learning_rates.EXHIBIT,
        extensions.EXHIBIT,
    )
}
