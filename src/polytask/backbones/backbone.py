"""A frozen pretrained transformer with its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from polytask.architectures import Architecture, HeadLayer, Pooling, architecture_of
from polytask.backbones.encoder import Encoder
from polytask.backbones.fast.int8 import NO_TRAINING, Int8Linear
from polytask.backbones.precision import INT8
from polytask.backbones.prefix_cache import PrefixCache
from polytask.dropout import KeyedDropoutSource
from polytask.errors import BackboneError
from polytask.fair_lock import FairLock


@dataclass(eq=False)
class Backbone:
    """A frozen pretrained transformer with its tokenizer.

    Any number of threads may use it. One thread at a time runs a forward pass or a training step; the others wait for
    the end of that step and get their turn in the order in which they asked.

    Attributes:
        name: the name it was loaded by.
        model: the Hugging Face model, frozen.
        tokenizer: its fast tokenizer.
        architecture: the model type.
        pooling: how hidden states become one vector per text.
        fingerprint: a hash of the tensors and the architecture's fields.
        tokenizer_fingerprint: a hash of how texts are tokenized. Both together determine the output.
        dropout_source: the dropout masks of the batch in flight.
        prefixes: the cache of hidden states below the lowest trained layer; assign a ``PrefixCache(…)`` for another
            memory limit or a folder.
        lock: held during a forward pass or a training step.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    architecture: str
    pooling: Pooling
    fingerprint: str
    tokenizer_fingerprint: str
    dropout_source: KeyedDropoutSource = field(default_factory=KeyedDropoutSource)
    prefixes: PrefixCache = field(default_factory=PrefixCache)
    lock: FairLock = field(default_factory=FairLock, repr=False)

    def __post_init__(self) -> None:
        takes_types = getattr(self.config, "type_vocab_size", 0) > 1
        self.encoder = Encoder(self.model, self.row, self.pooling, takes_types, self.dropout_source)

    def __repr__(self) -> str:
        """``<Backbone 'minilm': bert, 6 layers of 384, 22,565,376 parameters, float32 on cpu, pooling mean>``."""
        size = f"{self.num_layers} layers of {self.hidden}, {self.num_parameters:,} parameters"
        where = f"{self.precision} on {self.device}, pooling {self.pooling}"
        return f"<Backbone {self.name!r}: {self.architecture}, {size}, {where}>"

    @contextmanager
    def one_pass(self, *, training: bool) -> Iterator[None]:
        """Within the block no other thread uses the model, which is in train or eval mode."""
        with self.lock:
            if self.model.training != training:
                self.model.train(training)
            yield

    def check_trainable(self) -> None:
        """Check that adapters can be trained on this backbone.

        Raises:
            BackboneError: its products run in int8, which has no gradients.
        """
        if self.precision == INT8:
            raise BackboneError(NO_TRAINING)

    @property
    def row(self) -> Architecture:
        """The row of its architecture: where its sites are."""
        return architecture_of(self.architecture)

    @property
    def config(self) -> Any:
        """The model's Hugging Face configuration."""
        return self.model.config

    @property
    def hidden(self) -> int:
        """The width of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def head_layers(self) -> tuple[HeadLayer, ...]:
        """The layers of the prediction head that each task trains below its classifier; often none."""
        return self.row.head_of(self.config)

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        return int(self.config.num_hidden_layers)

    @property
    def num_parameters(self) -> int:
        """The number of all parameters, embeddings included."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The type of the frozen weights."""
        return next(self.model.parameters()).dtype

    @property
    def precision(self) -> str:
        """What the frozen products run in: ``int8``, or the type of the weights."""
        is_int8 = any(isinstance(module, Int8Linear) for module in self.model.modules())
        return INT8 if is_int8 else str(self.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int:
        """The maximum number of tokens of a text, special tokens included."""
        positions = int(self.config.max_position_embeddings)
        return min(positions - self.row.first_position_of(self.config), 1 << 20)
