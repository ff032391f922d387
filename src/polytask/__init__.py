"""Many tasks on one frozen pretrained transformer.

>>> import polytask as pt
>>> backbone = pt.load_backbone("minilm")
>>> task = pt.read_task("spam.csv", name="spam")
>>> adapter, result = pt.train(backbone, task, pt.Recipe(method=pt.Houlsby(size=64)))
>>> store = pt.Store("adapters")
>>> store.put(adapter)
>>> pt.MultiTask(backbone, store).predict(["WIN cash now", "see you at 5"], task="spam")

Importing this module imports nothing heavy: each public name is found in its own module on first use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from polytask import errors as errors
from polytask.errors import PolytaskError as PolytaskError

# isort: off
if TYPE_CHECKING:
    from polytask.adapter import Adapter as Adapter
    from polytask.attach import attach as attach, detach as detach
    from polytask.client import AsyncClient as AsyncClient, Client as Client
    from polytask.backbones import Backbone as Backbone, load_backbone as load_backbone
    from polytask.convert import convert as convert
    from polytask.interchange.hub import pull as pull, push as push
    from polytask.interchange.exporting import export_adapter as export_adapter
    from polytask.interchange.importing import import_adapter as import_adapter
    from polytask.interchange.onnx import export_onnx as export_onnx
    from polytask.methods import METHODS as METHODS, Method as Method
    from polytask.methods import FullFineTuning as FullFineTuning, TopLayers as TopLayers
    from polytask.methods import Houlsby as Houlsby, LayerNormOnly as LayerNormOnly
    from polytask.methods import Pfeiffer as Pfeiffer, Parallel as Parallel, LoRA as LoRA, IA3 as IA3, BitFit as BitFit
    from polytask.pretrained import load_attached as load_attached, save_attached as save_attached
    from polytask.predict import MultiTask as MultiTask, Prediction as Prediction
    from polytask.store import Store as Store
    from polytask.tasks.files import read_task as read_task
    from polytask.tasks.task import Rows as Rows, Task as Task
    from polytask.train.grid import grid as grid
    from polytask.routing import Route as Route
    from polytask.train.fused import train_many as train_many
    from polytask.train.loop import train as train
    from polytask.train.recipe import Recipe as Recipe
    from polytask.train.result import Result as Result
    from polytask.train.sweep import sweep as sweep
    from polytask.train.tune import tune as tune
# isort: on

__version__ = "0.1.0"

_MODULE_OF = {
    "Adapter": "polytask.adapter",
    "attach": "polytask.attach",
    "detach": "polytask.attach",
    "AsyncClient": "polytask.client",
    "Client": "polytask.client",
    "Backbone": "polytask.backbones",
    "load_backbone": "polytask.backbones",
    "convert": "polytask.convert",
    "export_adapter": "polytask.interchange.exporting",
    "export_onnx": "polytask.interchange.onnx",
    "import_adapter": "polytask.interchange.importing",
    "pull": "polytask.interchange.hub",
    "push": "polytask.interchange.hub",
    "METHODS": "polytask.methods",
    "FullFineTuning": "polytask.methods",
    "BitFit": "polytask.methods",
    "Houlsby": "polytask.methods",
    "IA3": "polytask.methods",
    "LoRA": "polytask.methods",
    "Parallel": "polytask.methods",
    "Pfeiffer": "polytask.methods",
    "LayerNormOnly": "polytask.methods",
    "Method": "polytask.methods",
    "TopLayers": "polytask.methods",
    "load_attached": "polytask.pretrained",
    "save_attached": "polytask.pretrained",
    "MultiTask": "polytask.predict",
    "Prediction": "polytask.predict",
    "Store": "polytask.store",
    "read_task": "polytask.tasks.files",
    "Rows": "polytask.tasks.task",
    "Task": "polytask.tasks.task",
    "grid": "polytask.train.grid",
    "train": "polytask.train.loop",
    "train_many": "polytask.train.fused",
    "Route": "polytask.routing",
    "Recipe": "polytask.train.recipe",
    "Result": "polytask.train.result",
    "sweep": "polytask.train.sweep",
    "tune": "polytask.train.tune",
}

__all__ = sorted([*_MODULE_OF, "PolytaskError", "errors"])


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'polytask' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(ModuleType):
    """``polytask.train``, ``polytask.attach`` and ``polytask.convert`` are the functions, whatever was imported before.

    Importing a module binds its name in its package. Where a public function is named like its module, the
    function is what the name means here; the module is imported by its full name all the same.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
