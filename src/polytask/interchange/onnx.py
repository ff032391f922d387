"""Adapters as ONNX: one file with backbone, adapter and head, or with many adapters and a number for each row.

``onnxruntime`` runs it without torch and without this library; the tokenizer stands beside it, and what the scores mean
is in the file's metadata under ``polytask``. A graph over many adapters looks up the parameters of each row, so a batch
may mix tasks as ours does.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows
from polytask.errors import AdapterError, DataError
from polytask.evaluation.calibration import calibration_from_json
from polytask.evaluation.heads import head_for
from polytask.evaluation.metrics import score
from polytask.files import whole_file, write_text
from polytask.interchange.beside import max_length
from polytask.interchange.graph import Graph, ManyTasks, OneTask, check_one

EXTRA = "ONNX needs packages that are not installed: pip install 'polytask[onnx]'"
KEY = "polytask"
OPSET = 18


@dataclass(frozen=True)
class OnnxExport:
    """What was written: the graph, its tokenizer, its size, and how it scored where rows were given.

    ``scores`` has ``fp32`` and, where it was asked for, ``int8``: the metric on the rows, by each graph.
    """

    path: Path
    tokenizer: Path
    size_bytes: int
    metric: str | None = None
    scores: dict[str, float] | None = None


def export_onnx(
    adapters: Adapter | Sequence[Adapter],
    path: str | Path,
    *,
    backbone: Backbone | str | Path | None = None,
    int8: bool = False,
    rows: Rows | None = None,
) -> OnnxExport:
    """Write one adapter, or many in one graph, as ONNX.

    Args:
        adapters: one; or many of one method, which may differ in size, labels and kind of head.
        path: the file, ``….onnx``. The tokenizer is written beside it as ``….tokenizer.json``.
        backbone: what they were trained on; by default what the first one's header names.
        int8: weights of matrices as 8-bit integers, products in 8 bits.
        rows: labelled rows to score the graph of one adapter on; needed with ``int8``, whose cost is to be known.

    Raises:
        RouteError: the adapters cannot share a graph.
        AdapterError: packages are missing; with the extra that has them.
        DataError: ``int8`` without rows, or rows without targets.
    """
    given = [adapters] if isinstance(adapters, Adapter) else list(adapters)
    check_one(given)
    path = Path(path)
    if path.suffix != ".onnx":
        raise AdapterError(f"{path} does not end in .onnx")
    if int8 and (rows is None or len(given) > 1):
        fix = "Give labelled rows: --test FILE, rows= in Python. Many adapters are quantised one by one"
        raise DataError("int8 costs accuracy, which differs from task to task", fix=fix)
    frozen = backbone if isinstance(backbone, Backbone) else _loaded(given[0], backbone)
    folded = [adapter.folded() for adapter in given]
    graph = OneTask(frozen, folded[0]) if len(given) == 1 else ManyTasks(frozen, folded)
    content = _described(_traced(graph), given)
    contents = {"fp32": content, **({"int8": _quantised(content)} if int8 else {})}
    tokenizer = _tokenizer(frozen, max(map(_length, given)))
    scores = None if rows is None else {n: _scored(c, tokenizer, given[0], rows) for n, c in contents.items()}
    chosen = contents["int8" if int8 else "fp32"]
    with whole_file(path) as part:
        part.write_bytes(chosen)
    beside = path.with_suffix(".tokenizer.json")
    write_text(beside, tokenizer.to_str())
    return OnnxExport(path, beside, len(chosen), given[0].header.metric if scores else None, scores)


def _loaded(adapter: Adapter, backbone: str | Path | None) -> Backbone:
    of = adapter.header
    return load_backbone(backbone or of.backbone.name, pooling=of.pooling, device="cpu", dtype="float32")


def _length(adapter: Adapter) -> int:
    return max_length(adapter.header)


def _traced(graph: Graph) -> Any:
    """The model in ONNX's own form, for batches and texts of any size."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise AdapterError(EXTRA) from None
    ids = torch.ones(2, 7, dtype=torch.long)
    example = (ids, *(torch.ones(2, dtype=torch.long) if n == "adapter" else ids.clone() for n in graph.inputs[1:]))
    example = tuple(tensor.zero_() if n == "adapter" else tensor for n, tensor in zip(graph.inputs, example))
    dynamic = torch.export.Dim.DYNAMIC
    shapes: list[Any] = [{0: dynamic} if n == "adapter" else {0: dynamic, 1: dynamic} for n in graph.inputs]
    with _quiet():
        program: Any = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            dynamic_shapes=(*shapes[:2], tuple(shapes[2:])) if shapes[2:] else tuple(shapes),
            input_names=list(graph.inputs),
            output_names=["scores"],
            opset_version=OPSET,
            verbose=False,
        )
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that do not matter here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _described(model: Any, adapters: Sequence[Adapter]) -> bytes:
    """The model's bytes, with what its scores mean in the metadata."""
    from onnx.helper import set_model_props

    tasks = [
        {
            "task": adapter.header.task,
            "kind": adapter.header.head.kind,
            "labels": list(adapter.header.head.labels),
            "backbone": adapter.header.backbone.name,
            "fingerprint": adapter.header.backbone.fingerprint,
            "digest": adapter.header.digest,
            **({} if (cuts := _cuts(adapter)) is None else {"holds_from": cuts.tolist()}),
        }
        for adapter in adapters
    ]
    set_model_props(model, {KEY: json.dumps(tasks, ensure_ascii=False)})
    content: bytes = model.SerializeToString()
    return content


def _quantised(content: bytes) -> bytes:
    """The same model with products in 8 bits."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise AdapterError(EXTRA) from None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        whole.write_bytes(content)
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it advises a preparation that changes nothing for transformers
        try:
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            root.setLevel(level)
        return small.read_bytes()


def _tokenizer(backbone: Backbone, length: int) -> Tokenizer:
    """The backbone's tokenizer, cutting texts as the adapter was trained and padding a batch."""
    own = Tokenizer.from_str(backbone.tokenizer.backend_tokenizer.to_str())
    own.enable_truncation(min(length, backbone.max_length))
    own.enable_padding(pad_id=backbone.tokenizer.pad_token_id or 0, pad_token=str(backbone.tokenizer.pad_token))
    return own


def _scored(content: bytes, tokenizer: Tokenizer, adapter: Adapter, rows: Rows) -> float:
    """The adapter's metric on labelled rows, by the graph."""
    header = adapter.header
    kind, labels = header.head.kind, header.head.labels
    if rows.targets is None:
        raise DataError("the rows have no labels to score against")
    if kind == "span":
        raise DataError("the scores of spans are not computed here", fix="Leave the rows out")
    head = head_for(kind, len(labels), header.backbone.hidden)
    cuts = _cuts(adapter)
    texts = list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))
    given = [head.prediction(row if cuts is None else row - cuts + 0.5) for row in run(content, tokenizer, texts)]
    return score(header.metric, kind, rows.targets, given, num_labels=len(labels))


def _cuts(adapter: Adapter) -> Tensor | None:
    """Of several labels, the probability in the graph from which each holds; else None."""
    head = adapter.header.head
    if head.kind != "multilabel" or adapter.header.calibration is None:
        return None
    own = calibration_from_json(adapter.header.calibration, head.kind, len(head.labels))
    return torch.tensor(own.cuts(len(head.labels)))


def run(content: bytes | str, tokenizer: Tokenizer, texts: Sequence[Any], batch_size: int = 32) -> Iterator[Tensor]:
    """The scores of each text by a graph of one task: its content, or where it is."""
    try:
        import onnxruntime
    except ImportError:
        raise AdapterError(EXTRA) from None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [taken.name for taken in session.get_inputs()]
    for start in range(0, len(texts), batch_size):
        encoded = tokenizer.encode_batch(list(texts[start : start + batch_size]))
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        feeds = {name: torch.tensor([getattr(of, columns[name]) for of in encoded]).numpy() for name in names}
        yield from torch.from_numpy(session.run(["scores"], feeds)[0])
