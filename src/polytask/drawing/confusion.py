"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polytask.drawing.figures import MAX_NAMED, MAX_NUMBERED, colour_bar, figure, heat_map, plain, save


def draw_confusion(
    path: str | Path, labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str = ""
) -> None:
    """Draw a confusion matrix: rows are true labels, columns predicted ones, shades are shares of the row.

    Cells have numbers up to 25 labels; beyond 100 labels only every second or third is named.

    Raises:
        PolytaskError: as ``figure``.
    """
    side = min(14.0, 2.2 + 0.55 * len(labels))
    drawn = figure(path, side + 0.8, side)
    axes = drawn.subplots()
    is_crowded = len(labels) > MAX_NUMBERED
    step = -(-len(labels) // MAX_NAMED)
    names = ["" if at % step else plain(label) for at, label in enumerate(labels)]
    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    texts = None if is_crowded else [[f"{count:,}" for count in row] for row in confusion]
    shades = heat_map(axes, shares, texts, names=(names, names), edge="none", cmap="Blues", vmin=0, vmax=1)
    turned = {"rotation": 90} if is_crowded else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(axes.get_xticks(), names, **turned)
    axes.tick_params(labelsize=7 if is_crowded else 10)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(plain(title, 80), fontsize=10)
    colour_bar(drawn, axes, shades, "share of the row's label", shrink=0.6, format=lambda share, _: f"{share:.0%}")
    save(drawn, path)
