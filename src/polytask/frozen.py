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
    """A frozen linear ``[O, I]``, its weight laid out once as the processor's matrix unit reads it.

    An ordinary product lays the weight out anew each time, which for a short batch takes longer than the product
    (benchmarks/products.py). Where torch has no such layout, or for other types than bf16, it is an ordinary product.
    """

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self._made_of: tuple[int, int, torch.dtype] | None = None
        self._packed: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """``[O, I]``."""
        return self.linear.weight

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, I]`` to ``[N, O]``."""
        packed = self.packed()
        if packed is None:
            return torch.addmm(self.linear.bias, x, self.weight.t())
        out: Tensor = mkldnn._linear_pointwise(x, packed, self.linear.bias, "none", [], "")
        return out

    def packed(self) -> Tensor | None:
        """The weight in the matrix unit's layout; None where an ordinary product is taken."""
        weight = self.weight
        made_of = (weight.data_ptr(), weight._version, weight.dtype)
        if self._made_of != made_of:
            can = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and PACKS
            self._packed = mkldnn._reorder_linear_weight(weight.detach()) if can else None
            self._made_of = made_of
        return self._packed


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
        """``q``, ``k``, ``v``: ``[B, T, D]``; ``bias`` on the scores, ``[BH, 1, T]``; ``keep`` ``[B, H, T, T]``."""
        ctx.num_heads, ctx.scale = num_heads, (q.shape[-1] // num_heads) ** -0.5
        q, k, v = (split(t, num_heads) for t in (q, k, v))
        probs = q.new_empty(len(q), q.shape[1], q.shape[1])
        torch.baddbmm(probs if bias is None else bias, q, k.mT, beta=bias is not None, alpha=ctx.scale, out=probs)
        torch.softmax(probs, -1, out=probs)
        dropped = probs if keep is None else probs * keep.view_as(probs)
        out = torch.bmm(dropped, v)
        ctx.save_for_backward(q, k, v, probs, dropped, out)
        return joined(out, num_heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The dropout's mask is not needed again: it stands in ``dropped``.

        A softmax's gradient needs the sum of its outputs times their gradients; over a row of probabilities that is
        the product of the row's output and its gradient, which is shorter (FlashAttention-2, arXiv:2307.08691).
        """
        q, k, v, probs, dropped, out = ctx.saved_tensors
        grad = split(grad, ctx.num_heads)
        of_v = torch.bmm(dropped.mT, grad)
        of_scores = torch.bmm(grad, v.mT).mul_(dropped)
        of_scores.addcmul_(probs, (grad * out).sum(-1, keepdim=True), value=-1)
        of_q = torch.baddbmm(q, of_scores, k, beta=0, alpha=ctx.scale)
        of_k = torch.baddbmm(k, of_scores.mT, q, beta=0, alpha=ctx.scale)
        return (*(joined(t, ctx.num_heads) for t in (of_q, of_k, of_v)), None, None, None)


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
