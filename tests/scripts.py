"""Imports a script of ``benchmarks/``, which is not part of every copy of the project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "benchmarks"


def script(name: str) -> Iterator[ModuleType]:
    """The module, for a fixture that yields from this; a copy without it skips the test."""
    if not (SCRIPTS / f"{name}.py").exists():
        pytest.skip("benchmarks/ is not part of this copy")
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module(name)
    sys.path.remove(str(SCRIPTS))
