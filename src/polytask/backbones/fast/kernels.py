"""The frozen parts of a transformer layer, with hand-written forward and backward passes.

A frozen weight needs no gradient, so most of what autograd would store and compute for these parts is not needed. Each
part is one autograd node instead of a dozen: it stores only what the gradient of its input needs, works in place where
possible, and adds the gradients of a residual and its branch inside a matrix product.

Shapes: ``N`` packed tokens, ``D`` hidden, ``F`` feed-forward, ``H`` heads. Texts are packed, ``[N, 1, D]``; attention
uses a grid of ``B`` texts with ``T`` tokens (``packing``). All tensors have the type of the weights. Dropout is given
as masks (``dropout``); None means no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.backbones.fast.int8 import NO_TRAINING, Int8Linear, Int8Weight, is_frozen, version_of
from polytask.errors import BackboneError
from polytask.packing import Packing

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn


class PrepackedLinear:
    """Frozen linears of one input, concatenated to ``[O, I]``, with the weight stored in the matrix unit's layout.

    An ordinary product converts the weight to that layout each time, which takes longer than the product for a short
    batch (benchmarks/products.py). Without that layout in torch, and for types other than bf16, this is an ordinary
    product. For int8 linears (``int8``) the product is in int8.

    Args:
        linears: the linears.
        rows: the rows of the concatenated weight to use (default: all).
    """

    def __init__(self, *linears: nn.Linear, rows: slice = slice(None)) -> None:
        self.linears, self.rows = linears, rows
        self._versions: object = None
        self._prepared: tuple[Tensor, Tensor | None, Tensor | Int8Weight | None] | None = None
        self._packed_transpose: Tensor | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether no weight trains or is the private copy of a task that replaces parameters."""
        return all(map(is_frozen, self.linears))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.linears[0].weight.device

    def __call__(self, x: Tensor, gelu: str | None = None) -> Tensor:
        """``[N, I]`` to ``[N, O]``, followed by a GELU of this kind if given."""
        weight, bias, packed = self._weights()
        if isinstance(packed, Int8Weight):
            return packed(x, gelu)
        if packed is not None:
            activation, kind = ("none", "") if gelu is None else ("gelu", gelu)
            return mkldnn._linear_pointwise(x, packed, bias, activation, [], kind)  # type: ignore[no-any-return]
        out = F.linear(x, weight, bias)
        return out if gelu is None else F.gelu(out, approximate=gelu)

    def multiplied(self, x: Tensor, other: Tensor) -> Tensor:
        """``[N, I]`` to ``[N, O]``, multiplied by ``other`` ``[N, O]`` in the same operation."""
        weight, bias, packed = self._weights()
        if isinstance(packed, Tensor):
            return mkldnn._linear_pointwise.binary(x, other, packed, bias, "mul")  # type: ignore[no-any-return]
        return (F.linear(x, weight, bias) if packed is None else packed(x)).mul_(other)

    def input_gradient(self, grad: Tensor, onto: Tensor | None = None) -> Tensor:
        """The gradient of the input, ``[N, O]`` to ``[N, I]``, added to ``onto`` if given."""
        weight, _, packed = self._weights()
        if isinstance(packed, Int8Weight):
            raise BackboneError(NO_TRAINING)
        if packed is None:
            return torch.mm(grad, weight) if onto is None else torch.addmm(onto, grad, weight)
        if self._packed_transpose is None:
            self._packed_transpose = mkldnn._reorder_linear_weight(weight.t().contiguous())
        if onto is None:
            return mkldnn._linear_pointwise(grad, self._packed_transpose, None, "none", [], "")  # type: ignore[no-any-return]
        return mkldnn._linear_pointwise.binary(grad, onto, self._packed_transpose, None, "add")  # type: ignore[no-any-return]

    def _weights(self) -> tuple[Tensor, Tensor | None, Tensor | Int8Weight | None]:
        """Weight, bias and the weight in the matrix unit's layout; prepared again when a weight has changed."""
        versions = [version_of(linear.weight) for linear in self.linears]
        if self._prepared is None or self._versions != versions:
            weight = _concatenated([linear.weight.detach() for linear in self.linears])[self.rows]
            biases = [linear.bias.detach() for linear in self.linears if linear.bias is not None]
            bias = _concatenated(biases)[self.rows] if biases else None
            self._prepared = weight, bias, self._packed(weight, bias)
            self._packed_transpose = None
            self._versions = versions
        return self._prepared

    def _packed(self, weight: Tensor, bias: Tensor | None) -> Tensor | Int8Weight | None:
        if all(isinstance(linear, Int8Linear) for linear in self.linears):
            return Int8Weight(weight, bias)
        is_packed = HAS_PREPACKED and weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
        return mkldnn._reorder_linear_weight(weight) if is_packed else None


def _concatenated(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


HAS_PREPACKED = torch.backends.mkldnn.is_available() and all(
    hasattr(mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
)


@dataclass(frozen=True)
class HeadLayout:
    """How attention arranges tokens.

    Attributes:
        num_heads: the number of heads.
        packing: the positions of the tokens.
        rotation: cosines and sines, ``[T, D/H]`` each, with equal halves (RoPE, arXiv:2104.09864); None for none.
        window: the greatest distance at which two tokens attend to each other; None for any.
        score_bias: what is added to scores, ``[BH, T, T]``, with the least number of its type where a token may not
            attend; None for what the packing hides.
    """

    num_heads: int
    packing: Packing
    rotation: tuple[Tensor, Tensor] | None = None
    window: int | None = None
    score_bias: Tensor | None = None

    def rotated(self, x: Tensor, back: bool = False) -> Tensor:
        """Queries or keys ``[…, T, D/H]`` rotated by their positions; with ``back`` the inverse rotation."""
        if self.rotation is None:
            return x
        cos, sin = self.rotation
        first, second = x.chunk(2, dim=-1)
        half = torch.cat((second, -first) if back else (-second, first), dim=-1)
        return torch.addcmul(x * cos, half, sin)

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to scores, ``[BH, T, T]``; None if nothing is."""
        if self.score_bias is not None:
            return self.score_bias
        return self.packing.attention_bias(self.num_heads, dtype, self.window)

    @property
    def visible(self) -> Tensor | None:
        """The mask for torch's attention, True where a token may attend, or the bias; None if nothing is hidden."""
        if self.score_bias is None:
            return self.packing.attention_mask(self.window)
        bias: Tensor = self.score_bias.unflatten(0, (-1, self.num_heads))
        return bias


class ProjectQKV(torch.autograd.Function):
    """Queries, keys and values of ``x``, and ``x`` itself, so that the gradients of branch and residual add up here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *linears: PrepackedLinear) -> tuple[Tensor, ...]:
        """``[N, 1, D]`` and three linears to four times ``[N, 1, D]``."""
        ctx.linears = linears
        flat = x.view(-1, x.shape[-1])
        return (*(linear(flat).view_as(x) for linear in linears), x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Three products that add to the gradient of ``x``."""
        *branches, grad = grads
        width = grad.shape[-1]
        out = grad.reshape(-1, width)
        for branch, linear in zip(branches, ctx.linears, strict=True):
            out = linear.input_gradient(branch.reshape(-1, width), out)
        return (out.view(grad.shape), *(None,) * len(ctx.linears))


class Attention(torch.autograd.Function):
    """Scaled dot-product attention with dropout of the probabilities."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: HeadLayout, keep: Tensor | None) -> Tensor:
        """``q``, ``k``, ``v``: ``[N, 1, D]``; ``keep`` ``[B, H, T, T]``."""
        ctx.layout = layout
        width = q.shape[-1] // layout.num_heads
        heads = [layout.packing.split_heads(t.squeeze(1), layout.num_heads, width)[0] for t in (q, k, v)]
        return attention_forward(ctx, heads[0], heads[1], heads[2], keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of ``q``, ``k`` and ``v``."""
        layout, grads = ctx.layout, attention_backward(ctx, grad)
        return (*(layout.packing.merge_heads(t[None], layout.num_heads)[:, None] for t in grads), None, None)


class SelfAttention(torch.autograd.Function):
    """``ProjectQKV`` and ``Attention`` in one, for layers without deltas on queries, keys and values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, linear: PrepackedLinear, layout: HeadLayout, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``[N, 1, D]`` to twice ``[N, 1, D]``; ``linear`` projects to concatenated queries, keys and values."""
        ctx.linear, ctx.layout = linear, layout
        ctx.set_materialize_grads(False)
        q, k, v = layout.packing.split_heads(linear(x.squeeze(1)), layout.num_heads, x.shape[-1] // layout.num_heads)
        return attention_forward(ctx, q, k, v, keep), x

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_x: Tensor | None) -> tuple[Tensor | None, ...]:
        """One product, added to the gradient of the residual."""
        of_qkv = ctx.layout.packing.merge_heads(attention_backward(ctx, grad), ctx.layout.num_heads)
        out = ctx.linear.input_gradient(of_qkv, None if of_x is None else of_x.squeeze(1))
        return out[:, None], None, None, None


def attention_forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
    """The forward pass of attention: ``[BH, T, D/H]`` each to ``[N, 1, D]``."""
    layout = ctx.layout
    ctx.scale = q.shape[-1] ** -0.5
    q, k = layout.rotated(q), layout.rotated(k)
    weights, share = attention_weights(q, k, layout.bias(q.dtype))
    dropped = weights if keep is None else weights * keep.view_as(weights)
    out = torch.bmm(dropped, v).mul_(share)
    ctx.save_for_backward(q, k, v, weights, share, dropped, out)
    return layout.packing.merge_heads(out[None], layout.num_heads)[:, None]  # type: ignore[no-any-return]


def attention_backward(ctx: Any, grad: Tensor) -> Tensor:
    """The gradients of ``q``, ``k`` and ``v``, ``[3, BH, T, D/H]``; the dropout mask is contained in ``dropped``.

    The gradient of a softmax needs the sum over its outputs times their gradients. For a row of probabilities this
    equals the dot product of the row's output and its gradient, which is shorter (FlashAttention-2, arXiv:2307.08691).
    The factor that normalises the weights of a row is applied to the row's gradient. Padding has the gradients of
    fillers, which are zeros, so it contributes nothing.
    """
    q, k, v, weights, share, dropped, out = ctx.saved_tensors
    layout = ctx.layout
    grads: Tensor = q.new_empty(3, *q.shape)
    grad = layout.packing.split_heads(grad.squeeze(1), layout.num_heads, q.shape[-1])[0] * share
    torch.bmm(dropped.mT, grad, out=grads[2])
    of_scores = torch.bmm(grad, v.mT).mul_(dropped)
    of_scores.addcmul_(weights, (grad * out).sum(-1, keepdim=True), value=-1)
    torch.baddbmm(q, of_scores, k, beta=0, alpha=ctx.scale, out=grads[0])
    torch.baddbmm(k, of_scores.mT, q, beta=0, alpha=ctx.scale, out=grads[1])
    if layout.rotation is not None:
        grads[:2] = layout.rotated(grads[:2], back=True)
    return grads


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention weights before normalisation, ``[BH, T, T]``, and the factor that normalises each row, ``[BH, T, 1]``.

    Torch's bf16 softmax takes several times as long as the products around it. Here the exponentials are not shifted,
    and rows are divided after the product with the values, where they are shorter. That is accurate, for gradients too,
    while the greatest score of each row is within 59 of zero. If one is not, a softmax is used.
    """
    weights = _attention_scores(q, k, bias).exp_()
    total = weights.sum(-1, keepdim=True)
    least, most = (float(end) for end in total.aminmax())
    far = torch.finfo(q.dtype).max ** (2 / 3)
    if 1 / far < least and most < far:
        return weights, total.reciprocal_()
    return torch.softmax(_attention_scores(q, k, bias), -1), torch.ones_like(total)


def _attention_scores(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """The scaled scores, ``[BH, T, T]``."""
    scores = q.new_empty(len(q), q.shape[1], k.shape[1])
    scale = q.shape[-1] ** -0.5
    torch.baddbmm(scores if bias is None else bias, q, k.mT, beta=bias is not None, alpha=scale, out=scores)
    return scores


class Linear(torch.autograd.Function):
    """A linear followed by dropout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: PrepackedLinear, keep: Tensor | None) -> Tensor:
        """``[N, 1, I]`` to ``[N, 1, O]``."""
        ctx.linear, ctx.keep = linear, keep
        out = linear(x.view(-1, x.shape[-1])).view(*x.shape[:-1], -1)
        return out if keep is None else out.mul_(keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One product."""
        grad = grad if ctx.keep is None else grad * ctx.keep
        out = ctx.linear.input_gradient(grad.reshape(-1, grad.shape[-1]))
        return out.view(*grad.shape[:-1], -1), None, None


class FeedForward(torch.autograd.Function):
    """Two linears with a GELU between them, followed by dropout; and ``x`` itself, as in ``ProjectQKV``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: PrepackedLinear, down: PrepackedLinear, gelu: str, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``[N, 1, D]`` to twice ``[N, 1, D]``; the weight of ``up`` is ``[F, D]``, that of ``down`` ``[D, F]``."""
        flat = x.view(-1, x.shape[-1])
        hidden = up(flat) if ctx.needs_input_grad[0] else None
        active = up(flat, gelu) if hidden is None else F.gelu(hidden, approximate=gelu)
        out = down(active).view_as(x)
        ctx.save_for_backward(hidden, keep)
        ctx.up, ctx.down, ctx.gelu = up, down, gelu
        return (out if keep is None else out.mul_(keep)), x

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_x: Tensor) -> tuple[Tensor | None, ...]:
        """Two products; the second is added to the gradient of the residual."""
        hidden, keep = ctx.saved_tensors
        grad = grad if keep is None else grad * keep
        of_hidden = ctx.down.input_gradient(grad.reshape(-1, grad.shape[-1]))
        aten.gelu_backward.grad_input(of_hidden, hidden, approximate=ctx.gelu, grad_input=of_hidden)
        out = ctx.up.input_gradient(of_hidden, of_x.reshape(-1, of_x.shape[-1]))
        return (out.view(of_x.shape), *(None,) * 4)


class GatedFeedForward(torch.autograd.Function):
    """Two linears with a gated GELU between them (GLU variants, arXiv:2002.05202)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: PrepackedLinear, down: PrepackedLinear, gelu: str) -> Tensor:
        """``[N, 1, D]`` to ``[N, 1, D]``; ``up`` projects to ``[N, 2F]``: the input of the GELU, then the gate."""
        hidden = up(x.view(-1, x.shape[-1]))
        active, gate = hidden.chunk(2, dim=-1)
        ctx.save_for_backward(hidden)
        ctx.up, ctx.down, ctx.gelu = up, down, gelu
        return down(F.gelu(active, approximate=gelu).mul_(gate)).view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Two products; the GELU is computed again."""
        (hidden,) = ctx.saved_tensors
        active, gate = hidden.chunk(2, dim=-1)
        of_mid = ctx.down.input_gradient(grad.reshape(-1, grad.shape[-1]))
        of_hidden = torch.empty_like(hidden)
        of_active, of_gate = of_hidden.chunk(2, dim=-1)
        torch.mul(of_mid, F.gelu(active, approximate=ctx.gelu), out=of_gate)
        of_active.copy_(aten.gelu_backward(of_mid.mul_(gate), active, approximate=ctx.gelu))
        return ctx.up.input_gradient(of_hidden).view(grad.shape), None, None, None
