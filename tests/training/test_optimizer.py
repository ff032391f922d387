"""``FlatAdam`` equals the formulas, with and without bias correction, and continues from its state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask.training.optimizer import FlatAdam, linear_schedule

SETTINGS = {"weight_decay": 0.01, "clip": 1.0, "epsilon": 1e-6}


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {"weight": nn.Parameter(torch.randn(5, 3)), "bias": nn.Parameter(torch.randn(5))}


@pytest.mark.parametrize("bias_correction", [True, False])
def test_a_step_is_that_of_the_paper_code(bias_correction: bool) -> None:
    own, expected = parameters(), parameters()
    adam = FlatAdam(own, bias_correction=bias_correction, **SETTINGS)
    m = {name: torch.zeros_like(p) for name, p in expected.items()}
    v = {name: torch.zeros_like(p) for name, p in expected.items()}
    for step in range(1, 6):
        grads = {name: torch.randn(p.shape) * step for name, p in expected.items()}
        for name, p in own.items():
            assert p.grad is not None
            p.grad.copy_(grads[name])
        adam.step(lr=0.1)
        norm = torch.sqrt(sum((g**2).sum() for g in grads.values()))  # type: ignore[arg-type]
        for name, p in expected.items():
            g = grads[name] / max(1.0, float(norm))
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            mean, root = m[name], v[name].sqrt()
            if bias_correction:
                mean, root = mean / (1 - 0.9**step), root / (1 - 0.999**step) ** 0.5
            decay = 0.01 * p if name == "weight" else 0.0
            p.data = p.data - 0.1 * (mean / (root + 1e-6) + decay)
        for name in own:
            torch.testing.assert_close(own[name], expected[name], rtol=1e-5, atol=1e-6)
            assert not own[name].grad.any()  # type: ignore[union-attr]


def test_a_restored_optimizer_continues_with_the_same_bits() -> None:
    first, second = parameters(), parameters()
    straight = FlatAdam(first, bias_correction=True, **SETTINGS)
    for step in range(6):
        if step == 3:
            saved = {name: tensor.clone() for name, tensor in straight.state().items()}
            resumed = FlatAdam(second, bias_correction=True, **SETTINGS)
            resumed.load(saved)
        for some in (first, second) if step >= 3 else (first,):
            for name, p in some.items():
                p.grad.copy_(torch.full(p.shape, 0.1 * step + len(name)))  # type: ignore[union-attr]
        straight.step(0.01)
        if step >= 3:
            resumed.step(0.01)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_rate_rises_over_the_first_tenth_and_falls_to_nothing() -> None:
    shares = [linear_schedule(step, 100, 0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1.0
    assert shares[55] == pytest.approx(0.5)
    assert shares[99] == pytest.approx(1 / 90)
    assert linear_schedule(0, 5, 0.0) == 1.0
    assert linear_schedule(100, 100, 0.1) == 0.0
