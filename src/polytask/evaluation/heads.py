"""Heads: output layers with their loss and predictions, one class for each kind of task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.architectures import HeadLayer
from polytask.backbones.encoder import mean_of_tokens
from polytask.data.encoding import Encoded
from polytask.data.task import Answer, Kind, Target, num_outputs
from polytask.data.windows import Span, Window, n_best_answers, with_probabilities
from polytask.devices import on_device
from polytask.methods.delta import truncated_normal_


class Head(nn.Module, ABC):
    """A linear layer on the pooled text or on its tokens, in fp32, with the loss and predictions of its kind.

    Args:
        hidden: the backbone's hidden size, ``D``.
        num_outputs: outputs of the linear layer.
        layers: layers before the linear one (``prediction_head``); they become submodules ``0``, ``1``, ….
        is_late: apply ``layers`` to each token and average their outputs, instead of applying them to the pooled text
            (late pooling). The linear layer is applied to the mean, which equals the mean of its outputs.
    """

    kind: ClassVar[Kind]
    reads_tokens: ClassVar[bool] = False
    """Whether the head is applied to each token instead of the pooled text."""
    stacks: ClassVar[bool] = False
    """Whether heads of this kind with equally many outputs can be applied in one matrix product."""

    def __init__(
        self, hidden: int, num_outputs: int, layers: Sequence[HeadLayer] = (), *, is_late: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.is_late = tuple(layers), is_late
        for number, layer in enumerate(layers):
            self.add_module(str(number), _build_layer(layer, hidden))
        self.weight = nn.Parameter(torch.empty(num_outputs, hidden))
        self.bias = nn.Parameter(torch.empty(num_outputs))

    def start(self, generator: torch.Generator) -> None:
        """Initialize with small weights and zero biases, as in the paper's code; norms start as the identity."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                truncated_normal_(parameter, 0.02, generator)
            else:
                nn.init.constant_(parameter, float("." in name and name.endswith("weight")))

    def before_last(self, states: Tensor) -> Tensor:
        """Apply the layers before the last, in fp32 or wider, to vectors ``[…, D]``."""
        out = states.to(self.weight.dtype)
        for layer in self.children():
            out = layer(out)
        return out

    def input_of(self, hidden: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Return what ``forward`` takes: one vector per text ``[B, D]``, or per token if the head reads tokens.

        Args:
            hidden: hidden states, ``[B, T, D]``.
            pooled: the pooled texts, ``[B, D]``.
            mask: 0 on padding, ``[B, T]``.
        """
        return mean_of_tokens(self.before_last(hidden), mask) if self.is_late else pooled

    def forward(self, vectors: Tensor) -> Tensor:
        """Return outputs in fp32 or wider, from what ``input_of`` returns."""
        last = vectors.to(self.weight.dtype) if self.is_late else self.before_last(vectors)
        return F.linear(last, self.weight, self.bias)

    def training_targets(self, encoded: Encoded, targets: Sequence[Target]) -> Sequence[Target]:
        """Return the training target of each text or window: that of its row."""
        return encoded.for_each(targets)

    @abstractmethod
    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Convert targets to a tensor with one row each."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per row, ``[B]``."""

    @abstractmethod
    def divergences(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """Return the symmetric Kullback-Leibler divergence of two outputs for the same rows, ``[B]``.

        For softmax and sigmoid that is half the product of the differences of probabilities and of logits. It is in
        the unit of ``losses``: a mean over labels where those are one.
        """

    @abstractmethod
    def scores(self, outputs: Tensor) -> Tensor:
        """Convert outputs to probabilities ``[B, K]``, or values ``[B, 1]``."""

    def aggregate_windows(self, scores: Sequence[Tensor], windows: Sequence[Window]) -> Any:
        """Return a row's scores: those of its text, or the mean over its windows if it was split."""
        return scores[0] if len(scores) == 1 else torch.stack(list(scores)).mean(dim=0)

    @abstractmethod
    def prediction(self, scores: Any) -> Target:
        """Convert a row's scores to a prediction in the form of targets."""


def _build_layer(layer: HeadLayer, hidden: int) -> nn.Module:
    """Build a layer of a prediction head, not initialized."""
    if layer.kind == "dense":
        return nn.Linear(hidden, hidden, bias=layer.bias)
    if layer.kind == "norm":
        return nn.LayerNorm(hidden, layer.eps, bias=layer.bias)
    return ACTIVATIONS[layer.kind]()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": partial(nn.GELU, "tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, "tanh"),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
"""Activations of prediction heads, by their names in transformers."""


class ClassificationHead(Head):
    """One of K labels: softmax and cross-entropy."""

    kind = "classification"
    stacks = True

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Label indices, ``[B]``."""
        return on_device(torch.tensor(list(targets), dtype=torch.long), device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def divergences(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """Between the distributions over labels."""
        return ((first.softmax(dim=-1) - second.softmax(dim=-1)) * (first - second)).sum(dim=-1) / 2

    def scores(self, outputs: Tensor) -> Tensor:
        """Probabilities that sum to one."""
        return outputs.softmax(dim=-1)

    def prediction(self, scores: Tensor) -> int:
        """Return the index of the most probable label. Values after the labels' scores are ignored."""
        return int(scores[: len(self.bias)].argmax())


class MultilabelHead(Head):
    """Any of K labels: a sigmoid each, binary cross-entropy."""

    kind = "multilabel"
    stacks = True

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """1 for each label of a row and 0 for the others, ``[B, K]``."""
        held = torch.zeros(len(targets), len(self.bias))
        for row, labels in enumerate(targets):
            held[row, list(labels)] = 1.0
        return on_device(held, device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over labels."""
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none").mean(dim=-1)

    def divergences(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """The mean over labels."""
        return ((first.sigmoid() - second.sigmoid()) * (first - second)).mean(dim=-1) / 2

    def scores(self, outputs: Tensor) -> Tensor:
        """A probability for each label."""
        return outputs.sigmoid()

    def prediction(self, scores: Tensor) -> tuple[int, ...]:
        """Return the indices of labels with a probability of at least 0.5."""
        return tuple((scores >= 0.5).nonzero().flatten().tolist())


class RegressionHead(Head):
    """A number, with squared error on standardized targets. The file stores weights for the original unit."""

    kind = "regression"

    def __init__(
        self, hidden: int, num_outputs: int = 1, layers: Sequence[HeadLayer] = (), *, is_late: bool = False
    ) -> None:
        super().__init__(hidden, num_outputs, layers, is_late=is_late)
        self.centre, self.spread = 0.0, 1.0

    def standardise(self, targets: Sequence[float]) -> None:
        """Standardize by the mean and standard deviation of these targets."""
        values = torch.tensor(list(targets), dtype=torch.float64)
        self.centre, self.spread = float(values.mean()), float(values.std(correction=0)) or 1.0

    def forward(self, vectors: Tensor) -> Tensor:
        """Return values in the targets' unit, ``[B, D]`` to ``[B, 1]``."""
        return super().forward(vectors) * self.spread + self.centre

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Values, ``[B]``."""
        return on_device(torch.tensor(list(targets), dtype=torch.float32), device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error divided by the variance of the training targets."""
        return ((outputs.squeeze(-1) - targets.to(outputs.dtype)) / self.spread) ** 2

    def divergences(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """Between normal distributions around the two values, with the variance of the training targets."""
        return ((first - second).squeeze(-1) / self.spread) ** 2 / 2

    def scores(self, outputs: Tensor) -> Tensor:
        """The values."""
        return outputs

    def prediction(self, scores: Tensor) -> float:
        """The value."""
        return float(scores)

    def state_in_own_unit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weight and bias with ``centre`` and ``spread`` folded in, for the targets' unit."""
        return {"weight": state["weight"] * self.spread, "bias": state["bias"] * self.spread + self.centre}


class SpanHead(Head):
    """The first and the last token of an answer, with a cross-entropy each over the tokens of a window.

    A window without the answer is trained to point at its first token, as in BERT's code. Predictions are always
    spans of the context. Source: Devlin et al., BERT, arXiv:1810.04805, section 4.2.
    """

    kind = "span"
    reads_tokens = True

    def input_of(self, hidden: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Return the hidden states."""
        return hidden

    def training_targets(self, encoded: Encoded, targets: Sequence[Target]) -> Sequence[Target]:
        """Return the answer's first and last token and the number of tokens of each window."""
        windows = encoded.windows_of(range(len(encoded)))
        return [(window.start, window.end, len(window.input_ids)) for window in windows]

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """First token, last token and number of tokens, ``[B, 3]``."""
        return on_device(torch.tensor(list(targets), dtype=torch.long), device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of the two cross-entropies, ``[B]``, of ``outputs`` ``[B, T, 2]``; padding is masked."""
        choices = outputs.masked_fill(_is_padding(outputs, targets), -torch.inf)
        return F.cross_entropy(choices, targets[:, :2], reduction="none").mean(dim=-1)

    def divergences(self, first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
        """The mean of those of the first and of the last token."""
        is_padding = _is_padding(first, targets)
        one, other = (outputs.masked_fill(is_padding, -torch.inf).softmax(dim=1) for outputs in (first, second))
        return ((one - other) * (first - second)).sum(dim=1).mean(dim=-1) / 2

    def scores(self, outputs: Tensor) -> Tensor:
        """The logits, ``[B, T, 2]``."""
        return outputs

    def aggregate_windows(self, scores: Sequence[Tensor], windows: Sequence[Window]) -> tuple[Span, ...]:
        """Return a question's best spans over all its windows, best first; none if logits are NaN."""
        if any(bool(logits.isnan().any()) for logits in scores):
            return ()
        starts, ends = ([logits[:, side].numpy() for logits in scores] for side in (0, 1))
        (best,) = n_best_answers(windows, starts, ends).values()
        return with_probabilities(best)

    def prediction(self, scores: Sequence[Span]) -> tuple[Answer, ...]:
        """The best span."""
        return tuple(Answer(span.text, span.start) for span in scores[:1])


def _is_padding(outputs: Tensor, targets: Tensor) -> Tensor:
    """Which tokens of ``[B, T, 2]`` are padding, ``[B, T, 1]``, from the numbers of tokens in ``targets``."""
    return (torch.arange(outputs.shape[1], device=outputs.device) >= targets[:, 2:])[..., None]


def answers(heads: Sequence[Head], hidden: Tensor, pooled: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the scores of each row's own head, in fp32 on the CPU.

    Args:
        heads: the head of each of the B rows.
        hidden, pooled, mask: as in ``Head.input_of``.
    """
    groups: dict[object, list[int]] = {}
    for row, head in enumerate(heads):
        can_stack = head.stacks and not head.layers
        groups.setdefault((type(head), len(head.bias)) if can_stack else head, []).append(row)
    scores: list[Tensor] = [torch.empty(0)] * len(heads)
    for rows in groups.values():
        own = list(dict.fromkeys(heads[row] for row in rows))
        vectors = own[0].input_of(*rows_of(rows, hidden, pooled, mask))
        outputs = own[0](vectors) if len(own) == 1 else _stacked_outputs(own, [heads[row] for row in rows], vectors)
        for row, answer in zip(rows, own[0].scores(outputs).float().cpu().unbind(), strict=True):
            scores[row] = answer
    return scores


def rows_of(rows: Sequence[int], *batch: Tensor) -> list[Tensor]:
    """These rows of each tensor of a batch; the tensors themselves if that is all rows."""
    is_whole = len(rows) == len(batch[0])
    return [tensor if is_whole else tensor[on_device(torch.tensor(rows), tensor.device)] for tensor in batch]


def _stacked_outputs(heads: Sequence[Head], of_rows: Sequence[Head], pooled: Tensor) -> Tensor:
    """Multiply by all heads at once and select each row's own outputs, ``[B, O]``."""
    weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
    number = {head: k for k, head in enumerate(heads)}
    own = on_device(torch.tensor([number[head] for head in of_rows]), pooled.device)
    outputs = F.linear(pooled.to(weight.dtype), weight, bias).view(len(pooled), len(heads), -1)
    return outputs[torch.arange(len(pooled), device=pooled.device), own]


HEADS: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "span": SpanHead,
}


def head_for(
    kind: Kind, num_labels: int, hidden: int, layers: Sequence[HeadLayer] = (), *, is_late: bool = False
) -> Head:
    """Build a head of this kind, not initialized. Heads that read tokens have no ``layers`` before the last.

    A late head without layers is an ordinary one: the mean of the hidden states is its input.
    """
    head = HEADS[kind]
    own = () if head.reads_tokens else layers
    return head(hidden, num_outputs(kind, num_labels), own, is_late=is_late and bool(own))
