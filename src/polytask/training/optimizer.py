"""``FlatAdam``: AdamW over one flat vector. A step is a few large operations, however many parameters there are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

LATE_STEP = 10**9
"""A step count at which Adam's bias corrections are 1. Starting the count there turns them off."""


class FlatAdam:
    """AdamW (arXiv:1711.05101). The parameters become views of ``flat``, and their gradients of ``grad``.

    Args:
        parameters: by name, all of one dtype. Their gradients stay allocated.
        weight_decay: for parameters of two or more dimensions; biases and LayerNorms have none.
        clip: the largest norm of the gradient over all parameters.
        epsilon: Adam's.
        bias_correction: False gives the optimizer of BERT's and the paper's code.
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
        num_decayed = sum(p.numel() for p in decayed)
        halves = ((slice(0, num_decayed), weight_decay), (slice(num_decayed, None), 0.0))
        parts = [(self._view(half), half, decay) for half, decay in halves if len(self.flat[half])]
        groups = [{"params": [part], "weight_decay": decay} for part, _, decay in parts]
        self.adam = torch.optim.AdamW(groups, eps=epsilon, fused=True)
        self.counts = [
            torch.tensor(0.0 if bias_correction else float(LATE_STEP), device=self.flat.device) for _ in parts
        ]
        for count, (part, half, _) in zip(self.counts, parts, strict=True):
            self.adam.state[part].update(step=count, exp_avg=self.m[half], exp_avg_sq=self.v[half])

    def _view(self, half: slice) -> nn.Parameter:
        """A view of some parameters as one parameter, with a view of their gradients."""
        part = nn.Parameter(self.flat[half])
        part.grad = self.grad[half]
        return part

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Clip the gradients, update the parameters and set the gradients to zero."""
        self.grad.mul_(self.clip / self.grad.norm().clamp(min=self.clip))
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()
        self.grad.zero_()

    def state(self) -> dict[str, Tensor]:
        """The state for a checkpoint; views, not copies."""
        return {"flat": self.flat, "m": self.m, "v": self.v, "count": self.counts[0]}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        for name in ("flat", "m", "v"):
            getattr(self, name).copy_(state[name])
        for count in self.counts:
            count.copy_(state["count"])


def linear_schedule(step: int, num_steps: int, warmup: float) -> float:
    """The learning rate at ``step`` (from 0) as a share of its peak: a linear warm-up, then linear decay to 0."""
    warmup_steps = round(num_steps * warmup)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (num_steps - step) / max(1, num_steps - warmup_steps))
