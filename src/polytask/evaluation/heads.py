"""Heads: a task's output layer, what it is trained with and what it answers. One small class for each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.architectures import HeadLayer
from polytask.data.encoding import Encoded
from polytask.data.task import Answer, Kind, Target, num_outputs
from polytask.data.windows import Span, Window, n_best_answers, with_probabilities
from polytask.methods.delta import truncated_normal_


class Head(nn.Module, ABC):
    """A linear layer on the pooled text or on its tokens, kept in fp32, with the loss and the answers of its kind.

    ``layers`` name what the pooled text goes through before (``prediction_head``): submodules ``0``, ``1``, ….
    """

    kind: ClassVar[Kind]
    reads_tokens: ClassVar[bool] = False
    stacks: ClassVar[bool] = False
    """Whether heads of this kind and of one number of outputs can answer at once, each its own rows."""

    def __init__(self, hidden: int, num_outputs: int, layers: Sequence[HeadLayer] = ()) -> None:
        super().__init__()
        self.layers = tuple(layers)
        for number, layer in enumerate(layers):
            self.add_module(str(number), _layer(layer, hidden))
        self.weight = nn.Parameter(torch.empty(num_outputs, hidden))
        self.bias = nn.Parameter(torch.empty(num_outputs))

    def start(self, generator: torch.Generator) -> None:
        """Small weights and no bias, as in the paper's code; norms of prediction heads at one."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                truncated_normal_(parameter, 0.02, generator)
            else:
                nn.init.constant_(parameter, float("." in name and name.endswith("weight")))

    def before_last(self, pooled: Tensor) -> Tensor:
        """``[B, D]`` to ``[B, D]``: the layers below the last, in fp32 (or wider)."""
        out = pooled.to(self.weight.dtype)
        for layer in self.children():
            out = layer(out)
        return out

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, D]`` (or ``[B, T, D]`` where tokens are read) to outputs in fp32 (or wider)."""
        return F.linear(self.before_last(pooled), self.weight, self.bias)

    def training_targets(self, encoded: Encoded, targets: Sequence[Target]) -> Sequence[Target]:
        """What each text or window is trained with: the target of its row."""
        return encoded.for_each(targets)

    @abstractmethod
    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Targets as a tensor with a row each."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One loss a row, ``[B]``."""

    @abstractmethod
    def scores(self, outputs: Tensor) -> Tensor:
        """What a user sees: probabilities ``[B, K]``, or values ``[B, 1]``."""

    def aggregate_windows(self, scores: Sequence[Tensor], windows: Sequence[Window]) -> Any:
        """A row's scores from those of its text or, where it was split, of its windows: the mean."""
        return scores[0] if len(scores) == 1 else torch.stack(list(scores)).mean(dim=0)

    @abstractmethod
    def prediction(self, scores: Any) -> Target:
        """What a row's scores come to, in the form that targets have."""


def _layer(layer: HeadLayer, hidden: int) -> nn.Module:
    """A layer of a prediction head, unfilled."""
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


class ClassificationHead(Head):
    """One of K labels: softmax and cross-entropy."""

    kind = "classification"
    stacks = True

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Label indices, ``[B]``."""
        return torch.tensor(list(targets), dtype=torch.long, device=device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def scores(self, outputs: Tensor) -> Tensor:
        """Probabilities that sum to one."""
        return outputs.softmax(dim=-1)

    def prediction(self, scores: Tensor) -> int:
        """The likeliest label's index."""
        return int(scores.argmax())


class MultilabelHead(Head):
    """Any of K labels: a sigmoid each, binary cross-entropy."""

    kind = "multilabel"
    stacks = True

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """A 1 for each label that holds, ``[B, K]``."""
        held = torch.zeros(len(targets), len(self.bias), device=device)
        for row, labels in enumerate(targets):
            held[row, list(labels)] = 1.0
        return held

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over labels."""
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none").mean(dim=-1)

    def scores(self, outputs: Tensor) -> Tensor:
        """A probability for each label."""
        return outputs.sigmoid()

    def prediction(self, scores: Tensor) -> tuple[int, ...]:
        """The indices of labels that hold with a probability of at least a half."""
        return tuple((scores >= 0.5).nonzero().flatten().tolist())


class RegressionHead(Head):
    """A number: squared error. Trained on standardised targets; ``centre`` and ``spread`` are folded in at the end."""

    kind = "regression"

    def __init__(self, hidden: int, num_outputs: int = 1, layers: Sequence[HeadLayer] = ()) -> None:
        super().__init__(hidden, num_outputs, layers)
        self.centre, self.spread = 0.0, 1.0

    def standardise(self, targets: Sequence[float]) -> None:
        """Learn in units of these targets' standard deviation around their mean."""
        values = torch.tensor(list(targets), dtype=torch.float64)
        self.centre, self.spread = float(values.mean()), float(values.std(correction=0)) or 1.0

    def forward(self, pooled: Tensor) -> Tensor:
        """``[B, D]`` to values in the targets' own unit, ``[B, 1]``."""
        return super().forward(pooled) * self.spread + self.centre

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Values, ``[B]``."""
        return torch.tensor(list(targets), dtype=torch.float32, device=device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error in units of the targets' variance."""
        return ((outputs.squeeze(-1) - targets.to(outputs.dtype)) / self.spread) ** 2

    def scores(self, outputs: Tensor) -> Tensor:
        """The values."""
        return outputs

    def prediction(self, scores: Tensor) -> float:
        """The value."""
        return float(scores)

    def state_in_own_unit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights and bias that give the same values without ``centre`` and ``spread``."""
        return {"weight": state["weight"] * self.spread, "bias": state["bias"] * self.spread + self.centre}


class SpanHead(Head):
    """The first and the last token of an answer: a cross-entropy each over the tokens of a window.

    What is learned of a window without the answer is that both are its first token, as in BERT's code; what is
    answered always lies in the context. Source: Devlin et al., BERT, arXiv:1810.04805, section 4.2.
    """

    kind = "span"
    reads_tokens = True

    def training_targets(self, encoded: Encoded, targets: Sequence[Target]) -> Sequence[Target]:
        """Of each window the answer's first and last token, and how many tokens it has."""
        windows = encoded.windows_of(range(len(encoded)))
        return [(window.start, window.end, len(window.input_ids)) for window in windows]

    def targets(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """First token, last token, number of tokens: ``[B, 3]``."""
        return torch.tensor(list(targets), dtype=torch.long, device=device)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of the two cross-entropies; ``outputs`` is ``[B, T, 2]``, and padding cannot be chosen."""
        is_padding = torch.arange(outputs.shape[1], device=outputs.device) >= targets[:, 2:]
        choices = outputs.masked_fill(is_padding[..., None], -torch.inf)
        return F.cross_entropy(choices, targets[:, :2], reduction="none").mean(dim=-1)

    def scores(self, outputs: Tensor) -> Tensor:
        """The logits, ``[B, T, 2]``."""
        return outputs

    def aggregate_windows(self, scores: Sequence[Tensor], windows: Sequence[Window]) -> tuple[Span, ...]:
        """A question's best spans over all of its windows, the best first; none where logits are not numbers."""
        if any(bool(logits.isnan().any()) for logits in scores):
            return ()
        starts, ends = ([logits[:, side].numpy() for logits in scores] for side in (0, 1))
        (best,) = n_best_answers(windows, starts, ends).values()
        return with_probabilities(best)

    def prediction(self, scores: Sequence[Span]) -> tuple[Answer, ...]:
        """The best span."""
        return tuple(Answer(span.text, span.start) for span in scores[:1])


def answers(heads: Sequence[Head], hidden: Tensor, pooled: Tensor) -> list[Tensor]:
    """The scores of each row's own head, in fp32 on the CPU.

    Args:
        heads: one for each of the B rows.
        hidden: ``[B, T, D]``, for heads that read tokens.
        pooled: ``[B, D]``, for the others.
    """
    alike: dict[object, list[int]] = {}
    for row, head in enumerate(heads):
        can = head.stacks and not head.layers
        alike.setdefault((type(head), len(head.bias)) if can else head, []).append(row)
    scores: list[Tensor] = [torch.empty(0)] * len(heads)
    for rows in alike.values():
        own = list(dict.fromkeys(heads[row] for row in rows))
        vectors = hidden if own[0].reads_tokens else pooled
        vectors = vectors if len(rows) == len(heads) else vectors[torch.tensor(rows, device=vectors.device)]
        outputs = own[0](vectors) if len(own) == 1 else _at_once(own, [heads[row] for row in rows], vectors)
        for row, answer in zip(rows, own[0].scores(outputs).float().cpu().unbind(), strict=True):
            scores[row] = answer
    return scores


def _at_once(heads: Sequence[Head], of_rows: Sequence[Head], pooled: Tensor) -> Tensor:
    """The outputs ``[B, O]`` of several heads: one product with all of them, and of each row its own head's part."""
    weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
    number = {head: k for k, head in enumerate(heads)}
    own = torch.tensor([number[head] for head in of_rows], device=pooled.device)
    outputs = F.linear(pooled.to(weight.dtype), weight, bias).view(len(pooled), len(heads), -1)
    return outputs[torch.arange(len(pooled), device=pooled.device), own]


HEADS: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "span": SpanHead,
}


def head_for(kind: Kind, num_labels: int, hidden: int, layers: Sequence[HeadLayer] = ()) -> Head:
    """An unfilled head of this kind, on the ``layers`` of a prediction head unless it reads tokens."""
    of = HEADS[kind]
    return of(hidden, num_outputs(kind, num_labels), () if of.reads_tokens else layers)
