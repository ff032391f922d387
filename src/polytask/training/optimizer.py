"""Adam over one flat fp32 vector: a step is a dozen large operations, however many small parameters there are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

WARM = 10**9
"""A step count at which Adam's bias corrections are 1: to start there is to do without them."""


class FlatAdam:
    """AdamW; the parameters become views of ``flat`` and their gradients of ``grad``.

    Without ``bias_correction`` it is the optimizer of BERT's and the paper's code. Gradients are cut to a norm of
    ``clip`` over all parameters.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        weight_decay: float,
        clip: float,
        epsilon: float,
        bias_correction: bool,
    ) -> None:
        self.clip = clip
        decayed = [p for p in parameters.values() if p.dim() > 1]
        others = [p for p in parameters.values() if p.dim() <= 1]
        self.flat = torch.cat([p.detach().reshape(-1) for p in (*decayed, *others)])
        self.grad, self.m, self.v = (torch.zeros_like(self.flat) for _ in range(3))
        start = 0
        for p in (*decayed, *others):
            end = start + p.numel()
            p.data = self.flat[start:end].view_as(p)
            p.grad = self.grad[start:end].view_as(p)
            start = end
        middle = sum(p.numel() for p in decayed)
        halves = ((slice(0, middle), weight_decay), (slice(middle, None), 0.0))
        parts = [(self._part(half), half, decay) for half, decay in halves if len(self.flat[half])]
        groups = [{"params": [part], "weight_decay": decay} for part, _, decay in parts]
        self.adam = torch.optim.AdamW(groups, eps=epsilon, fused=True)
        self.counts = [torch.tensor(0.0 if bias_correction else float(WARM), device=self.flat.device) for _ in parts]
        for count, (part, half, _) in zip(self.counts, parts, strict=True):
            self.adam.state[part].update(step=count, exp_avg=self.m[half], exp_avg_sq=self.v[half])

    def _part(self, half: slice) -> nn.Parameter:
        """A view of some parameters as one, with a view of their gradients."""
        part = nn.Parameter(self.flat[half])
        part.grad = self.grad[half]
        return part

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the parameters with the gradients and clear them."""
        self.grad.mul_(self.clip / self.grad.norm().clamp(min=self.clip))
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()
        self.grad.zero_()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs; views, not copies."""
        return {"flat": self.flat, "m": self.m, "v": self.v, "count": self.counts[0]}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        for name in ("flat", "m", "v"):
            getattr(self, name).copy_(state[name])
        for count in self.counts:
            count.copy_(state["count"])


def linear_schedule(step: int, num_steps: int, warmup: float) -> float:
    """The share of the peak learning rate at ``step`` (from 0): up over the warm-up, then linearly to 0."""
    rise = round(num_steps * warmup)
    if step < rise:
        return (step + 1) / rise
    return max(0.0, (num_steps - step) / max(1, num_steps - rise))
