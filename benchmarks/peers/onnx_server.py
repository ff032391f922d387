"""A hand-written server as a baseline: one classifier behind FastAPI, with ONNX Runtime and tokenizers.

    python onnx_server.py MODEL.onnx TOKENIZER.json PORT [THREADS]

A request is ``{"input": [texts]}``; its texts are one batch, padded to the longest. Requests are computed one after the
other in a thread of their own, as a session of ONNX Runtime uses all cores by itself.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

LENGTH = 128


class Texts(BaseModel):
    input: list[str]


def created(model: str, tokenizer_file: str, threads: int) -> FastAPI:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    columns = {taken.name: names[taken.name] for taken in session.get_inputs()}
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding()
    thread, app = ThreadPoolExecutor(1), FastAPI()

    def answer(texts: list[str]) -> list[list[float]]:
        cut = tokenizer.encode_batch(texts)
        feeds = {name: np.array([getattr(one, of) for one in cut], dtype=np.int64) for name, of in columns.items()}
        (scores,) = session.run(None, feeds)
        return scores.tolist()

    @app.post("/classify")
    async def classify(texts: Texts) -> dict[str, list[list[float]]]:
        return {"data": await asyncio.get_running_loop().run_in_executor(thread, answer, texts.input)}

    return app


if __name__ == "__main__":
    model, tokenizer_file, port, *rest = sys.argv[1:]
    app = created(model, tokenizer_file, int(rest[0]) if rest else 0)
    uvicorn.run(app, port=int(port), log_level="warning")
