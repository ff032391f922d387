"""``benchmarks/gpu.py`` runs on a CPU in a small form, so that it runs on a GPU the first time."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
PARTS = ("equal", "memory", "train", "fused", "mixed")


@pytest.mark.skipif(not SCRIPT.exists(), reason="benchmarks/ is not part of this copy")
def test_every_part_writes_its_figures(tiny_bert_folder: Path, tmp_path: Path) -> None:
    how = ["--device", "cpu", "--small", "--seconds", "0.1", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, str(SCRIPT), "--model", str(tiny_bert_folder), *how], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    (folder,) = tmp_path.iterdir()
    assert {file.name for file in folder.iterdir()} == {f"gpu-{part}.csv" for part in PARTS}
    errors = [float(row["relative_error"]) for row in csv.DictReader((folder / "gpu-equal.csv").open())]
    assert max(errors) < 0.1
    libraries = {row["library"] for row in csv.DictReader((folder / "gpu-train.csv").open())}
    assert {"polytask", "plain torch", "transformers"} <= libraries
