"""Compares three kinds of attention without gradients: torch's own, with torch's softmax, and with exponentials.

The last one is ``polytask.backbones.fast.kernels.attention_weights``. ``B`` texts of ``T`` tokens, 12 heads; ``error``
is the mean distance from the answer in float64. CPU only.

    python benchmarks/attending.py --threads 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from contenders import of_operations, results_folder, write_csv
from polytask.backbones.fast.kernels import attention_weights
from polytask.bench.interleave import alternated
from polytask.memory import keep_freed_memory

NUM_HEADS = 12
SHAPES = ((26, 16), (26, 40), (26, 56), (26, 64), (26, 80), (26, 128), (16, 192), (12, 256))
WIDTHS = {"minilm": 32, "bert-base": 64}
Heads = tuple[Tensor, Tensor, Tensor]


def fused(heads: Heads, bias: Tensor, seen: Tensor) -> Tensor:
    q, k, v = (t.unflatten(0, (-1, NUM_HEADS)) for t in heads)
    return F.scaled_dot_product_attention(q, k, v, seen).flatten(0, 1)


def by_softmax(heads: Heads, bias: Tensor, seen: Tensor) -> Tensor:
    q, k, v = heads
    return torch.bmm(torch.softmax(torch.baddbmm(bias, q, k.mT, alpha=q.shape[-1] ** -0.5), -1), v)


def by_exponentials(heads: Heads, bias: Tensor, seen: Tensor) -> Tensor:
    weights, share = attention_weights(heads[0], heads[1], bias)
    return torch.bmm(weights, heads[2]).mul_(share)


WAYS: dict[str, Callable[[Heads, Tensor, Tensor], Tensor]] = {
    "fused": fused,
    "softmax": by_softmax,
    "exponentials": by_exponentials,
}


@torch.inference_mode()
def measured(dtype: torch.dtype, rounds: int) -> Iterator[dict[str, Any]]:
    """One CSV row per model and shape."""
    for model, width in WIDTHS.items():
        for num_texts, length in SHAPES:
            draw = torch.Generator().manual_seed(0)
            exact = torch.randn(3, num_texts * NUM_HEADS, length, width, generator=draw, dtype=torch.float64)
            seen = torch.ones(num_texts, 1, 1, length, dtype=torch.bool)
            bias = torch.zeros(num_texts * NUM_HEADS, 1, length, dtype=dtype).expand(-1, length, -1)
            q, k, v = exact.to(dtype)
            runs: dict[str, Callable[[], Tensor]] = {n: partial(way, (q, k, v), bias, seen) for n, way in WAYS.items()}
            right = fused((exact[0], exact[1], exact[2]), bias, seen)
            errors = {name: float((run().double() - right).abs().mean()) for name, run in runs.items()}
            seconds = alternated(runs, rounds)
            yield {
                "model": model,
                "dtype": str(dtype).removeprefix("torch."),
                "texts": num_texts,
                "tokens": length,
                **{f"{name}_ms": round(1e3 * taken, 3) for name, taken in seconds.items()},
                "exponentials_are": round(seconds["fused"] / seconds["exponentials"], 2),
                **{f"{name}_error": f"{error:.1e}" for name, error in errors.items()},
            }


def main() -> None:
    """Measure and write ``attending.csv``."""
    args = of_operations(__doc__, 15, torch.get_num_threads())
    torch.set_num_threads(args.threads)
    with keep_freed_memory():
        rows = [row for dtype in (torch.bfloat16, torch.float32) for row in measured(dtype, args.rounds)]
    write_csv(results_folder(args.out, "cpu", args.threads) / "attending.csv", rows)


if __name__ == "__main__":
    main()
