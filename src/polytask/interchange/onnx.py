"""Exports one or many adapters, with the backbone and the heads, to one ONNX file.

``onnxruntime`` runs the file without torch and without this library. The tokenizer is written beside it, and the
metadata key ``polytask`` describes the scores. A graph of many adapters takes an adapter index for each row, so that a
batch can mix tasks.
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
from polytask.adapters.header import Header
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows
from polytask.errors import AdapterError, DataError
from polytask.evaluation.heads import head_for
from polytask.evaluation.metrics import score
from polytask.files import whole_file, write_text
from polytask.interchange.graph import Graph, ManyTasks, OneTask, check_not_empty
from polytask.interchange.label_thresholds import HOLDS_FROM, label_thresholds_of
from polytask.interchange.separate_head import max_length

EXTRA = "ONNX needs packages that are not installed: pip install 'polytask[onnx]'"
KEY = "polytask"
OPSET = 18


@dataclass(frozen=True)
class OnnxExport:
    """The files written, the size of the graph and, if rows were given, its scores.

    ``scores`` has the metric on the rows for ``fp32`` and, if requested, ``int8``.
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
    """Export one adapter, or many in one graph, to ONNX.

    Args:
        adapters: one adapter, or several of the same method, which may differ in size, labels and kind of head.
        path: the file to write, ``NAME.onnx``. The tokenizer is written to ``NAME.tokenizer.json``.
        backbone: the backbone that they were trained on; by default the one in the first header.
        int8: quantize weights and matrix products to 8 bits.
        rows: labelled rows to score the graph of one adapter on; required with ``int8``, to measure how much is lost.

    Raises:
        RouteError: the adapters cannot share a graph.
        AdapterError: ONNX packages are not installed.
        DataError: ``int8`` without rows, or rows without targets.
    """
    given = [adapters] if isinstance(adapters, Adapter) else list(adapters)
    check_not_empty(given)
    path = Path(path)
    if path.suffix != ".onnx":
        raise AdapterError(f"{path} does not end in .onnx")
    if int8 and (rows is None or len(given) > 1):
        fix = "Give labelled rows with --test FILE (rows= in Python). Quantize several adapters one by one"
        raise DataError(
            "int8 needs labelled rows of one task, because its loss of accuracy differs from task to task", fix=fix
        )
    frozen = backbone if isinstance(backbone, Backbone) else _load_backbone(given[0], backbone)
    folded = [adapter.folded() for adapter in given]
    graph = OneTask(frozen, folded[0]) if len(given) == 1 else ManyTasks(frozen, folded)
    content = _with_metadata(_trace(graph), given)
    contents = {"fp32": content, **({"int8": _quantize(content)} if int8 else {})}
    tokenizer = _tokenizer(frozen, max(map(_length, given)))
    scores = None if rows is None else {n: _score_graph(c, tokenizer, given[0], rows) for n, c in contents.items()}
    chosen = contents["int8" if int8 else "fp32"]
    with whole_file(path) as part:
        part.write_bytes(chosen)
    beside = path.with_suffix(".tokenizer.json")
    write_text(beside, tokenizer.to_str())
    return OnnxExport(path, beside, len(chosen), given[0].header.metric if scores else None, scores)


def _load_backbone(adapter: Adapter, backbone: str | Path | None) -> Backbone:
    of = adapter.header
    return load_backbone(backbone or of.backbone.name, pooling=of.pooling, device="cpu", dtype="float32")


def _length(adapter: Adapter) -> int:
    return max_length(adapter.header)


def _trace(graph: Graph) -> Any:
    """The ONNX model, with dynamic batch size and text length."""
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
    """Suppress the exporter's warnings about optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _with_metadata(model: Any, adapters: Sequence[Adapter]) -> bytes:
    """The serialized model with a description of its scores in the metadata."""
    from onnx.helper import set_model_props

    tasks = [
        {
            "task": adapter.header.task,
            "kind": adapter.header.head.kind,
            "labels": list(adapter.header.head.labels),
            "backbone": adapter.header.backbone.name,
            "fingerprint": adapter.header.backbone.fingerprint,
            "digest": adapter.header.digest,
            **({} if (cuts := label_thresholds_of(adapter.header)) is None else {HOLDS_FROM: cuts}),
        }
        for adapter in adapters
    ]
    set_model_props(model, {KEY: json.dumps(tasks, ensure_ascii=False)})
    content: bytes = model.SerializeToString()
    return content


def _quantize(content: bytes) -> bytes:
    """The model quantized to 8 bits."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise AdapterError(EXTRA) from None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        whole.write_bytes(content)
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends a preprocessing step that does nothing for transformers
        try:
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            root.setLevel(level)
        return small.read_bytes()


def _tokenizer(backbone: Backbone, length: int) -> Tokenizer:
    """The backbone's tokenizer, set to truncate as in training and to pad each batch."""
    own = Tokenizer.from_str(backbone.tokenizer.backend_tokenizer.to_str())
    own.enable_truncation(min(length, backbone.max_length))
    own.enable_padding(pad_id=backbone.tokenizer.pad_token_id or 0, pad_token=str(backbone.tokenizer.pad_token))
    return own


def _score_graph(content: bytes, tokenizer: Tokenizer, adapter: Adapter, rows: Rows) -> float:
    """The adapter's metric on labelled rows, computed with the graph."""
    header = adapter.header
    kind, labels = header.head.kind, header.head.labels
    if rows.targets is None:
        raise DataError("the rows have no labels to score against")
    if kind == "span":
        raise DataError("question answering cannot be scored here", fix="Leave the rows out")
    head = head_for(kind, len(labels), header.backbone.hidden)
    cuts = _label_cuts(header)
    texts = list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))
    given = [head.prediction(row if cuts is None else row - cuts + 0.5) for row in run_graph(content, tokenizer, texts)]
    return score(header.metric, kind, rows.targets, given, num_labels=len(labels))


def _label_cuts(header: Header) -> Tensor | None:
    """The least probability at which each label of a multi-label task is given; above 1 for a label that never is."""
    cuts = label_thresholds_of(header) if header.head.kind == "multilabel" else None
    return None if cuts is None else torch.tensor([2.0 if cut is None else cut for cut in cuts])


def run_graph(
    content: bytes | str, tokenizer: Tokenizer, texts: Sequence[Any], batch_size: int = 32
) -> Iterator[Tensor]:
    """Run a graph of one task on texts; yields the scores of each text.

    Args:
        content: the serialized graph, or the path of its file.

    Raises:
        AdapterError: onnxruntime is not installed.
    """
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
