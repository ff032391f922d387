"""Draws how cost grows (``growth.py``): processor time against size, one panel a part, beside a linear line.

python benchmarks/growth_picture.py results/speed/MACHINE/growth.csv docs/growth.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.drawing.figures import COLOURS, MUTED, figure, label_axes, save, style_axes
from report import Row, chosen, ratios, read

PANELS = {
    "loaded": ("Adapters of size 64 loaded", "adapters"),
    "loaded_small": ("Adapters of size 8 loaded", "adapters"),
    "store": ("Versions put into a store", "versions"),
    "answered": ("Rows answered", "rows"),
    "read": ("Rows read, and written with an answer", "rows"),
    "backbones": ("BERT: an epoch of four steps", "million parameters in layers"),
}
"""The title of each part, and the name of its size."""


def draw(axes: Any, rows: Sequence[Row], title: str, of: str) -> None:
    """One part: its times, and a line of the slope 1 through the last of them."""
    sizes, seconds = ratios(rows, "size"), ratios(rows, "processor_s")
    axes.loglog(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], color=MUTED, linestyle=":", label="linear")
    axes.loglog(sizes, seconds, color=COLOURS["adapters"], marker="o", label="measured")
    style_axes(axes)
    label_axes(axes, title, of, "processor time, s")


def main() -> None:
    """Draw the parts that the file has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    rows = read(args.csv)
    parts = [part for part in PANELS if chosen(rows, part=part)]
    drawn = figure(args.picture, 12, 6.5)
    panels = drawn.subplots(2, 3).flat
    for axes, part in zip(panels, parts):
        draw(axes, chosen(rows, part=part), *PANELS[part])
    for axes in list(drawn.axes)[len(parts) :]:
        axes.set_visible(False)
    drawn.axes[0].legend(frameon=False, fontsize=9)
    save(drawn, args.picture)


if __name__ == "__main__":
    main()
