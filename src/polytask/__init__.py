"""Many tasks on one frozen pretrained transformer.

>>> import polytask as pt
>>> backbone = pt.load_backbone("minilm")
>>> task = pt.read_task("spam.csv", name="spam")
>>> adapter, result = pt.train(backbone, task, pt.Recipe(method=pt.Houlsby(size=64)))
>>> store = pt.Store("adapters")
>>> store.put(adapter)
>>> pt.MultiTask(backbone, store).predict(["WIN cash now", "see you at 5"], task="spam")

Data may also be in memory, and adapters can be exchanged with the hub and other libraries:

>>> task = pt.read_task(frame, "spam", text="message", label="kind")  # a DataFrame, a Dataset, (texts, labels)
>>> recipe = pt.Recipe(pt.LoRA(rank=8), lr=1e-3, epochs=5)
>>> pt.train_many(backbone, [(task, recipe), (other, recipe)])  # in one pass
>>> pt.MultiTask(backbone, store).predict(["see you at 5"], "hub:OWNER/spam")
>>> store.push("spam@1", "OWNER/spam")
>>> pt.export_adapter(adapter, "folder", "peft")
>>> pt.attach(model, pt.LoRA(rank=8))  # a model of transformers, for Trainer or a loop of your own

``polytask.sklearn`` has estimators for scikit-learn. See ``help(pt.read_task)`` and so on for details.

Importing this module is cheap: each public name is imported from its own module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from polytask import errors as errors
from polytask.errors import PolytaskError as PolytaskError
from polytask.threads import limit_spinning

# isort: off
if TYPE_CHECKING:
    from polytask.adapters.adapter import Adapter as Adapter
    from polytask.adapters.attach import attach as attach, detach as detach
    from polytask.serving.client import AsyncClient as AsyncClient, Client as Client
    from polytask.backbones.backbone import Backbone as Backbone
    from polytask.backbones.loading import load_backbone as load_backbone
    from polytask.backbones.convert import convert as convert
    from polytask.interchange.hub import pull as pull, push as push
    from polytask.interchange.exporting import export_adapter as export_adapter
    from polytask.interchange.importing import import_adapter as import_adapter
    from polytask.interchange.onnx import export_onnx as export_onnx
    from polytask.methods import METHODS as METHODS, Method as Method
    from polytask.methods import FullFineTuning as FullFineTuning, TopLayers as TopLayers
    from polytask.methods import Houlsby as Houlsby, LayerNormOnly as LayerNormOnly, Probe as Probe
    from polytask.methods import BitFit as BitFit, IA3 as IA3, LoRA as LoRA, Parallel as Parallel, Pfeiffer as Pfeiffer
    from polytask.adapters.pretrained import load_attached as load_attached, save_attached as save_attached
    from polytask.evaluation.none_of_these import DetectNone as DetectNone
    from polytask.evaluation.thresholds import Goal as Goal
    from polytask.inference.predict import MultiTask as MultiTask
    from polytask.inference.prediction import Prediction as Prediction
    from polytask.adapters.store import Store as Store
    from polytask.data.read import read_task as read_task
    from polytask.data.task import Rows as Rows, Task as Task
    from polytask.training.grid import grid as grid
    from polytask.reporting.report import Report as Report, report as report
    from polytask.routing.route import Route as Route
    from polytask.adapters.averaging import average_adapters as average_adapters
    from polytask.training.fused import train_many as train_many
    from polytask.training.multitask import train_multitask as train_multitask
    from polytask.training.start import Start as Start
    from polytask.training.start_trial import choose_start as choose_start
    from polytask.training.loop import train as train
    from polytask.training.recipe import Recipe as Recipe
    from polytask.training.result import Result as Result
    from polytask.training.sweep import sweep as sweep
    from polytask.training.sweep_cost import sweep_cost as sweep_cost
    from polytask.training.to_store import train_to_store as train_to_store, tune_to_store as tune_to_store
    from polytask.training.tune import tune as tune
# isort: on

__version__ = "0.1.0"

_MODULE_OF = {
    "Adapter": "polytask.adapters.adapter",
    "attach": "polytask.adapters.attach",
    "detach": "polytask.adapters.attach",
    "AsyncClient": "polytask.serving.client",
    "Client": "polytask.serving.client",
    "Backbone": "polytask.backbones.backbone",
    "load_backbone": "polytask.backbones.loading",
    "convert": "polytask.backbones.convert",
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
    "Probe": "polytask.methods",
    "LayerNormOnly": "polytask.methods",
    "Method": "polytask.methods",
    "TopLayers": "polytask.methods",
    "load_attached": "polytask.adapters.pretrained",
    "save_attached": "polytask.adapters.pretrained",
    "DetectNone": "polytask.evaluation.none_of_these",
    "Goal": "polytask.evaluation.thresholds",
    "MultiTask": "polytask.inference.predict",
    "Prediction": "polytask.inference.prediction",
    "Store": "polytask.adapters.store",
    "read_task": "polytask.data.read",
    "Rows": "polytask.data.task",
    "Task": "polytask.data.task",
    "grid": "polytask.training.grid",
    "train": "polytask.training.loop",
    "average_adapters": "polytask.adapters.averaging",
    "train_many": "polytask.training.fused",
    "train_multitask": "polytask.training.multitask",
    "Start": "polytask.training.start",
    "choose_start": "polytask.training.start_trial",
    "Report": "polytask.reporting.report",
    "report": "polytask.reporting.report",
    "Route": "polytask.routing.route",
    "Recipe": "polytask.training.recipe",
    "Result": "polytask.training.result",
    "sweep": "polytask.training.sweep",
    "sweep_cost": "polytask.training.sweep_cost",
    "train_to_store": "polytask.training.to_store",
    "tune_to_store": "polytask.training.to_store",
    "tune": "polytask.training.tune",
}

limit_spinning()  # before anything imports torch

__all__ = sorted([*_MODULE_OF, "PolytaskError", "errors"])


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        if name.startswith("__"):
            raise AttributeError(f"module 'polytask' has no attribute {name!r}")
        from polytask.counterparts import missing_name

        raise missing_name(name, __all__)
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
