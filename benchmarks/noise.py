"""Compares our dropout masks with torch's own: their time, and statistical checks of their randomness.

``ours`` is ``polytask.dropout.keep_mask``; ``torch`` is ``dropout``; ``drawn`` is a plain ``random_`` of one 16-bit
number after another, cut at the rate. Each is multiplied onto the same bf16 numbers, as a layer does.

The checks compare the dropped numbers with a binomial: the rate in standard errors; the variance of sums over rows and
over columns as a share of the binomial's (1 is right); the largest correlation of two rows, two columns and two masks,
in standard errors, beside ``expected``, about the largest of independent ones. ``rectangles`` looks for the
dependence that our way of making numbers could leave, in standard errors.

    python benchmarks/noise.py --threads 2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from contenders import of_operations, results_folder, write_csv
from polytask.bench.interleave import alternated
from polytask.dropout import LEVELS, TABLE_WIDTH, keep_mask

SHAPES = {
    "hidden, 32 × 16 tokens": (32, 16, 384),
    "hidden, 32 × 128 tokens": (32, 128, 384),
    "attention, 32 × 64 tokens": (32, 12, 64, 64),
    "hidden of BERT-base, 32 × 128 tokens": (32, 128, 768),
}
CHECKED = ((2048, 768), (1024, 1024))
RATE = 0.1
NUM_MASKS = 40
Mask = Callable[[tuple[int, ...], int, str], Tensor]


def ours(shape: tuple[int, ...], step: int, site: str) -> Tensor:
    return keep_mask(shape, RATE, (0, "job", step, site), torch.empty(0, dtype=torch.bfloat16))


def by_torch(shape: tuple[int, ...], step: int, site: str) -> Tensor:
    return F.dropout(torch.ones(shape, dtype=torch.bfloat16), RATE)


def drawn(shape: tuple[int, ...], step: int, site: str) -> Tensor:
    levels = torch.empty(shape, dtype=torch.int16).random_(-LEVELS // 2, LEVELS // 2)
    return (levels >= round(RATE * LEVELS) - LEVELS // 2).to(torch.bfloat16).mul_(1 / (1 - RATE))


WAYS: dict[str, Mask] = {"ours": ours, "torch": by_torch, "drawn": drawn}


def milliseconds(shape: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Of each way to drop some of a tensor of this shape; torch's own does it in one."""
    x = torch.randn(shape).bfloat16()
    steps = iter(range(1_000_000))
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: x * ours(shape, next(steps), "site"),
        "torch": lambda: F.dropout(x, RATE),
        "drawn": lambda: x * drawn(shape, 0, "site"),
    }
    return {name: 1e3 * seconds for name, seconds in alternated(runs, rounds).items()}


def checked(way: Mask, shape: tuple[int, int]) -> dict[str, float]:
    """The statistics of masks of many steps and sites."""
    num_rows, num_columns = shape
    masks = [(way(shape, at // 2, f"site {at % 2}") == 0).float() for at in range(NUM_MASKS)]
    share = sum(mask.double().mean().item() for mask in masks) / NUM_MASKS
    error = math.sqrt(RATE * (1 - RATE) / (NUM_MASKS * num_rows * num_columns))
    of_sum = RATE * (1 - RATE)
    by_row = torch.cat([mask.sum(1) for mask in masks]).double().var().item() / (of_sum * num_columns)
    by_column = torch.cat([mask.sum(0) for mask in masks]).double().var().item() / (of_sum * num_rows)
    rows, columns = (largest(masks[0]), largest(masks[0].T))
    flat = torch.stack([mask.flatten() for mask in masks])
    return {
        "rate_off_by": (share - RATE) / error,
        "row_sum_variance": by_row,
        "column_sum_variance": by_column,
        "between_rows": rows,
        "rows_expected": expected(num_rows),
        "between_columns": columns,
        "columns_expected": expected(num_columns),
        "between_sites_and_steps": largest(flat),
        "masks_expected": expected(NUM_MASKS),
        "rectangles": sum(rectangles(mask) for mask in masks) / math.sqrt(NUM_MASKS),
    }


def rectangles(mask: Tensor) -> float:
    """How far four numbers at the corners of a rectangle of our table of words go together, in standard errors.

    The words there, before they are stirred, are such that any three tell the fourth: if a trace of that were left, it
    would show here. Over all pairs of rows and all pairs of columns, for each of the four numbers of a word.
    """
    lanes = mask.flatten().view(-1, TABLE_WIDTH, 4).permute(2, 0, 1).double() - RATE
    of_pairs = (lanes @ lanes.mT).square() - lanes.square() @ lanes.square().mT
    num_rows = lanes.shape[1]
    found = of_pairs.sum().item() - of_pairs.diagonal(dim1=1, dim2=2).sum().item()
    pairs = 4 * num_rows * (num_rows - 1) / 2
    error = math.sqrt(pairs * 2 * TABLE_WIDTH * (TABLE_WIDTH - 1)) * (RATE * (1 - RATE)) ** 2
    return found / 2 / error


def largest(rows: Tensor) -> float:
    """The largest correlation of two different rows, in standard errors."""
    centred = rows - rows.mean(1, keepdim=True)
    normed = centred / centred.norm(dim=1, keepdim=True)
    correlations = normed @ normed.T
    correlations.fill_diagonal_(0)
    return correlations.abs().max().item() * math.sqrt(rows.shape[1])


def expected(number: int) -> float:
    """About the largest of the correlations of ``number`` independent rows, in standard errors."""
    return math.sqrt(2 * math.log(number * (number - 1)))


def main() -> None:
    """Measure, check, print, and write ``noise.csv`` (times) and ``noise-checks.csv``."""
    args = of_operations(__doc__, 15, torch.get_num_threads())
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    folder = results_folder(args.out, "cpu", args.threads)
    times: list[dict[str, Any]] = []
    for what, shape in SHAPES.items():
        taken = milliseconds(shape, args.rounds)
        own = {f"{name}_ms": round(ms, 2) for name, ms in taken.items()}
        ratios = {f"{name}_over_ours": round(taken[name] / taken["ours"], 1) for name in ("torch", "drawn")}
        times.append({"numbers": what, **own, **ratios})
    write_csv(folder / "noise.csv", times)
    checks = [
        {
            "masks": name,
            "shape": " × ".join(map(str, shape)),
            **{check: round(value, 3) for check, value in checked(way, shape).items()},
        }
        for name, way in WAYS.items()
        for shape in CHECKED
    ]
    write_csv(folder / "noise-checks.csv", checks)


if __name__ == "__main__":
    main()
