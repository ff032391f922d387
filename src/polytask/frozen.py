"""The frozen parts of a transformer's layer, forward and backward by hand.

A frozen weight needs no gradient, so most of what autograd would keep and do for these parts is for nothing. Each part
here is one node of the graph instead of a dozen: it keeps what the input's gradient needs and no more, works in place
where nobody looks, and adds gradients that meet (a residual's and its branch's) inside a matrix product.

``N`` rows times tokens, ``D`` hidden, ``F`` feed-forward, ``H`` heads. All in the type of the weights. Dropout comes as
masks (see ``noise``); None is none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn


class Frozen:
    """Frozen linears of one input side by side, ``[O, I]``; the weight laid out once as the matrix unit reads it.

    An ordinary product lays the weight out anew each time, which for a short batch takes longer than the product
    (benchmarks/products.py). Where torch has no such layout, or for other types than bf16, it is an ordinary product.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        self.linears = linears
        self._made_of: object = None
        self._made: tuple[Tensor, Tensor, Tensor | None] | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether no weight trains."""
        return not any(linear.weight.requires_grad for linear in self.linears)

    @property
    def weight(self) -> Tensor:
        """``[O, I]``."""
        return self._parts()[0]

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, I]`` to ``[N, O]``."""
        weight, bias, packed = self._parts()
        if packed is None:
            return torch.addmm(bias, x, weight.t())
        out: Tensor = mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return out

    def _parts(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weight, bias and the weight in the matrix unit's layout, made again when a linear's weight is another."""
        made_of = [(linear.weight.data_ptr(), linear.weight._version, linear.weight.dtype) for linear in self.linears]
        if self._made is None or self._made_of != made_of:
            weights, biases = (
                [getattr(linear, part).detach() for linear in self.linears] for part in ("weight", "bias")
            )
            weight, bias = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (weights, biases))
            can = PACKS and weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
            self._made = weight, bias, mkldnn._reorder_linear_weight(weight) if can else None
            self._made_of = made_of
        return self._made


PACKS = torch.backends.mkldnn.is_available() and all(
    hasattr(mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
)


class Project(torch.autograd.Function):
    """Queries, keys and values of ``x``, and ``x`` itself, so that the gradients of both ways meet here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *linears: Frozen) -> tuple[Tensor, ...]:
        """``[B, T, D]`` and three linears to four times ``[B, T, D]``."""
        ctx.linears = linears
        flat = x.view(-1, x.shape[-1])
        return (*(linear(flat).view_as(x) for linear in linears), x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Three products that add to the gradient of ``x``."""
        *branches, grad = grads
        width = grad.shape[-1]
        out = grad.reshape(-1, width)
        for at, (branch, linear) in enumerate(zip(branches, ctx.linears, strict=True)):
            flat = branch.reshape(-1, width)
            out = out.addmm_(flat, linear.weight) if at else torch.addmm(out, flat, linear.weight)
        return (out.view(grad.shape), *(None,) * len(ctx.linears))


class Attend(torch.autograd.Function):
    """Scaled dot-product attention of heads side by side, with dropout of the probabilities."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, num_heads: int, bias: Tensor | None, keep: Tensor | None
    ) -> Tensor:
        """``q``, ``k``, ``v``: ``[B, T, D]``; ``bias`` on the scores, ``[BH, T, T]``; ``keep`` ``[B, H, T, T]``."""
        ctx.num_heads = num_heads
        q, k, v = (split(t, num_heads) for t in (q, k, v))
        return attended(ctx, q, k, v, bias, keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of ``q``, ``k`` and ``v``."""
        grads = attended_backward(ctx, grad)
        return (*(joined(t, ctx.num_heads) for t in grads), None, None, None)


class SelfAttend(torch.autograd.Function):
    """``Project`` and ``Attend`` in one, where nothing is added to queries, keys and values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, linear: Frozen, num_heads: int, bias: Tensor | None, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``[B, T, D]`` to twice ``[B, T, D]``; ``linear`` makes queries, keys and values side by side."""
        ctx.linear, ctx.num_heads = linear, num_heads
        b, t, d = x.shape
        qkv = linear(x.view(-1, d)).view(b, t, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, b * num_heads, t, -1)
        return attended(ctx, q, k, v, bias, keep), x

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_x: Tensor) -> tuple[Tensor | None, ...]:
        """One product adds to the gradient that ``x`` has from elsewhere."""
        b, t, d = of_x.shape
        of_qkv = attended_backward(ctx, grad).view(3, b, ctx.num_heads, t, -1).permute(1, 3, 0, 2, 4)
        out = torch.addmm(of_x.reshape(-1, d), of_qkv.reshape(-1, 3 * d), ctx.linear.weight)
        return out.view_as(of_x), None, None, None, None


def attended(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, keep: Tensor | None) -> Tensor:
    """``[BH, T, D/H]`` each to ``[B, T, D]``."""
    ctx.scale = q.shape[-1] ** -0.5
    probs = q.new_empty(len(q), q.shape[1], q.shape[1])
    torch.baddbmm(probs if bias is None else bias, q, k.mT, beta=bias is not None, alpha=ctx.scale, out=probs)
    torch.softmax(probs, -1, out=probs)
    dropped = probs if keep is None else probs * keep.view_as(probs)
    out = torch.bmm(dropped, v)
    ctx.save_for_backward(q, k, v, probs, dropped, out)
    return joined(out, ctx.num_heads)


def attended_backward(ctx: Any, grad: Tensor) -> Tensor:
    """The gradients of ``q``, ``k`` and ``v``, ``[3, BH, T, D/H]``. The mask is not needed: it stands in ``dropped``.

    A softmax's gradient needs the sum of its outputs times their gradients; over a row of probabilities that is the
    product of the row's output and its gradient, which is shorter (FlashAttention-2, arXiv:2307.08691).
    """
    q, k, v, probs, dropped, out = ctx.saved_tensors
    grads: Tensor = q.new_empty(3, *q.shape)
    grad = split(grad, ctx.num_heads)
    torch.bmm(dropped.mT, grad, out=grads[2])
    of_scores = torch.bmm(grad, v.mT).mul_(dropped)
    of_scores.addcmul_(probs, (grad * out).sum(-1, keepdim=True), value=-1)
    torch.baddbmm(q, of_scores, k, beta=0, alpha=ctx.scale, out=grads[0])
    torch.baddbmm(k, of_scores.mT, q, beta=0, alpha=ctx.scale, out=grads[1])
    return grads


def split(x: Tensor, num_heads: int) -> Tensor:
    """``[B, T, D]`` to ``[BH, T, D/H]``."""
    b, t, d = x.shape
    return x.view(b, t, num_heads, d // num_heads).transpose(1, 2).reshape(b * num_heads, t, d // num_heads)


def joined(x: Tensor, num_heads: int) -> Tensor:
    """``[BH, T, D/H]`` to ``[B, T, D]``."""
    bh, t, d = x.shape
    return x.view(bh // num_heads, num_heads, t, d).transpose(1, 2).reshape(bh // num_heads, t, num_heads * d)


class Linear(torch.autograd.Function):
    """A linear and the dropout of what comes out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Frozen, keep: Tensor | None) -> Tensor:
        """``[B, T, I]`` to ``[B, T, O]``."""
        ctx.linear, ctx.keep = linear, keep
        out = linear(x.view(-1, x.shape[-1])).view(*x.shape[:-1], -1)
        return out if keep is None else out.mul_(keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One product."""
        grad = grad if ctx.keep is None else grad * ctx.keep
        out = torch.mm(grad.reshape(-1, grad.shape[-1]), ctx.linear.weight)
        return out.view(*grad.shape[:-1], -1), None, None


class FeedForward(torch.autograd.Function):
    """Two linears with a GELU between them, the dropout of what comes out; and ``x`` itself, as in ``Project``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Frozen, down: Frozen, gelu: str, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """``[B, T, D]`` to twice ``[B, T, D]``; ``up``'s weight is ``[F, D]``, that of ``down`` ``[D, F]``."""
        hidden = up(x.view(-1, x.shape[-1]))
        out = down(F.gelu(hidden, approximate=gelu)).view_as(x)
        ctx.save_for_backward(hidden, keep)
        ctx.up, ctx.down, ctx.gelu = up, down, gelu
        return (out if keep is None else out.mul_(keep)), x

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_x: Tensor) -> tuple[Tensor | None, ...]:
        """The second product adds to the gradient that ``x`` has from elsewhere."""
        hidden, keep = ctx.saved_tensors
        grad = grad if keep is None else grad * keep
        of_hidden = torch.mm(grad.reshape(-1, grad.shape[-1]), ctx.down.weight)
        aten.gelu_backward.grad_input(of_hidden, hidden, approximate=ctx.gelu, grad_input=of_hidden)
        out = torch.addmm(of_x.reshape(-1, of_x.shape[-1]), of_hidden, ctx.up.weight)
        return (out.view(of_x.shape), *(None,) * 4)
