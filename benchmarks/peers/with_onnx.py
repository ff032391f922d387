"""ONNX Runtime as a contender: a graph of the encoder, alone or with an adapter and its head."""

from __future__ import annotations

from typing import Any

import onnxruntime

from contenders import Run, serve
from peers.plain import read_work
from polytask.bench.reference_loop import inputs_of


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """What answers a batch with the sum of the graph's output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    session = onnxruntime.InferenceSession(settings["graph"], options, providers=["CPUExecutionProvider"])
    work, names = read_work(settings), [one.name for one in session.get_inputs()]
    batches = work["orders"][settings["order"]]

    def run(batch: int) -> float:
        inputs = inputs_of(work, batches[batch], "cpu")
        return float(session.run(None, {name: inputs[name].numpy() for name in names})[0].sum())

    return run, {}


if __name__ == "__main__":
    serve(make)
