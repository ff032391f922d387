"""Writes the README of an export, with Python code that uses it; a test runs that code."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.adapters.header import Header
from polytask.architectures import HeadLayer
from polytask.interchange.separate_head import max_length

_SCORES = {"classification": "{}.softmax(dim=-1)", "multilabel": "{}.sigmoid()", "regression": "{}"}
_MEAN = ('mask = batch["attention_mask"][..., None]', "pooled = (pooled * mask).sum(dim=1) / mask.sum(dim=1)")
_POOLED = {
    "cls": ("pooled = out.last_hidden_state[:, 0]",),
    "pooler": ("pooled = out.pooler_output",),
    "mean": ("pooled = out.last_hidden_state", *_MEAN),
    "last": (
        'last = batch["input_ids"].shape[1] - 1 - batch["attention_mask"].flip(1).argmax(dim=1)',
        "pooled = out.last_hidden_state[torch.arange(len(last)), last]",
    ),
    "late": ("pooled = out.last_hidden_state",),
}
_ACTIVATIONS = {
    "tanh": "pooled.tanh()",
    "relu": "F.relu(pooled)",
    "gelu": "F.gelu(pooled)",
    "gelu_new": 'F.gelu(pooled, approximate="tanh")',
    "gelu_pytorch_tanh": 'F.gelu(pooled, approximate="tanh")',
    "silu": "F.silu(pooled)",
}


def readme(header: Header, what: str, imports: Sequence[str], model: Sequence[str], *, includes_head: bool) -> str:
    """Markdown for the export of an adapter.

    Args:
        what: one sentence that describes the files.
        imports: the import statements of the library.
        model: the statements that define ``tokenizer`` and ``model``; they may use ``backbone``.
        includes_head: whether the model includes the head; otherwise the head is read from its own file.
    """
    kind, outputs = header.head.kind, "probabilities" if header.head.kind != "regression" else "values"
    labels = ", ".join(header.head.labels)
    of = f" over {labels}" if labels else ""
    code = "\n".join(_code(header, imports, model, includes_head=includes_head))
    return (
        f"# {header.task}\n\n{what} It was exported by Polytask for a {kind} task: `answer` returns "
        f"{outputs}{of}, one row for each text.\n\n"
        f"Run it in this folder; `backbone` is the checkpoint that the adapter was trained on, "
        f"`{header.backbone.name}` (weights with the fingerprint `{header.backbone.fingerprint}`).\n\n"
        f"```python\n{code}\n```\n"
    )


def _code(header: Header, imports: Sequence[str], model: Sequence[str], *, includes_head: bool) -> list[str]:
    scores = _SCORES[header.head.kind]
    usual = ["import torch", *imports]
    loads: list[str] = list(model)
    if includes_head:
        body = [f"return {scores.format('model(**batch).logits')}"]
    else:
        usual += ["from safetensors.torch import load_file", "from torch.nn import functional as F"]
        loads.append('head = load_file("head.safetensors")')
        body = ["out = model(**batch)", *_POOLED[header.pooling], *_head_layers(header.prediction_layers)]
        body += _MEAN if header.pooling == "late" else ()
        logits = 'F.linear(pooled, head["weight"], head["bias"])'
        body.append(f"return {scores.format(logits)}")
    cut = f"padding=True, truncation=True, max_length={max_length(header)}"
    batch = f'batch = tokenizer(texts, {cut}, return_tensors="pt")'
    answer = ["@torch.inference_mode()", "def answer(texts):", *(f"    {line}" for line in (batch, *body))]
    return [*usual, "", f'backbone = "{header.backbone.name}"', *loads, "", "", *answer]


def _head_layers(layers: Sequence[HeadLayer]) -> list[str]:
    """The statements that apply the layers of the prediction head before the last one."""
    lines = []
    for number, layer in enumerate(layers):
        weight, bias = f'head["{number}.weight"]', f'head["{number}.bias"]' if layer.bias else "None"
        trained = {
            "dense": f"F.linear(pooled, {weight}, {bias})",
            "norm": f"F.layer_norm(pooled, pooled.shape[-1:], {weight}, {bias}, {layer.eps})",
        }
        lines.append(f"pooled = {trained.get(layer.kind) or _ACTIVATIONS[layer.kind]}")
    return lines
