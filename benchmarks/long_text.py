"""Compares two ways to tokenise a very long text: only its beginning, or all of it.

``cut`` is what training and answering do (``polytask.data.tokens``), ``whole`` tokenises all of the text and throws
the rest away; it is not done for texts of more than ``MOST_WHOLE`` MB, which take minutes and GB. Both in turns, the
median of some rounds; ``same`` says whether they give the same tokens.

    python benchmarks/long_text.py [--megabytes 1,5,50]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contenders import results_folder, versions, write_csv
from polytask.backbones.loading import load_backbone
from polytask.bench.interleave import alternated
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.data.tokens import tokenize

MOST_WHOLE = 5
WORDS = "the plot of this film was not great but its actors were, and I would see all of it again tomorrow "


def row_of(tokenizer: Any, megabytes: int, num_tokens: int, rounds: int) -> dict[str, Any]:
    """One CSV row: a text of so many MB (10**6 ASCII characters) to its first tokens, both ways."""
    size = megabytes * 10**6
    text = (WORDS * (size // len(WORDS) + 1))[:size]
    cut = partial(encode, tokenizer, Rows([text]), num_tokens)
    whole = partial(tokenize, tokenizer, text, truncation=True, max_length=num_tokens, verbose=False)
    is_whole = megabytes <= MOST_WHOLE
    runs: dict[str, Callable[[], object]] = {"cut": cut} | ({"whole": whole} if is_whole else {})
    seconds = alternated(runs, rounds)
    return {
        "megabytes": megabytes,
        "tokens_read": num_tokens,
        "cut_s": f"{seconds['cut']:.4f}",
        "whole_s": f"{seconds['whole']:.3f}" if is_whole else "",
        "whole_over_cut": round(seconds["whole"] / seconds["cut"]) if is_whole else "",
        "same": list(cut().ids[0]) == whole()["input_ids"] if is_whole else "",
        "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
    }


def main() -> None:
    """Measure and write ``long-text.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--megabytes", type=lambda sizes: [int(size) for size in sizes.split(",")], default=[1, 5, 50])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    tokenizer = load_backbone(args.model, device="cpu", dtype="float32").tokenizer
    rows = [row_of(tokenizer, size, args.tokens, args.rounds) for size in args.megabytes]
    write_csv(results_folder(args.out, "cpu", args.threads) / "long-text.csv", rows)


if __name__ == "__main__":
    main()
