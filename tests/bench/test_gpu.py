"""``benchmarks/gpu.py`` runs on a CPU in a small form, so that it runs on a GPU the first time."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks/ is not part of this copy")
@pytest.mark.filterwarnings("ignore::polytask.errors.PolytaskWarning")
def test_every_part_writes_its_figures(
    tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = importlib.import_module("gpu")
    how = ["--device", "cpu", "--small", "--seconds", "0", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--model", str(tiny_bert_folder), *how])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 0, capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    rows = {file.stem: list(csv.DictReader(file.open())) for file in folder.iterdir()}
    assert rows.keys() == {f"gpu-{part}" for part in gpu.PARTS}
    assert max(float(row["relative_error"]) for row in rows["gpu-equal"]) < 0.1
    assert {"polytask", "plain torch", "transformers"} <= {row["library"] for row in rows["gpu-train"]}


@pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks/ is not part of this copy")
def test_a_part_that_fails_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = importlib.import_module("gpu")
    assert gpu.guarded("fine", lambda: None, tmp_path / "failures.txt")
    assert not gpu.guarded("broken", lambda: 1 / 0, tmp_path / "failures.txt")
    assert "broken\nTraceback" in (tmp_path / "failures.txt").read_text()
