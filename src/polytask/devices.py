"""Copies tensors from the host to the backbone's device without waiting for it.

A GPU works through a queue that the host fills. The host must not wait in a training step, or the queue runs empty. An
ordinary copy to a GPU waits for everything in the queue; a copy from page-locked memory is queued like any operation.
"""

from __future__ import annotations

import torch
from torch import Tensor


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``; on a CPU the tensor itself."""
    if device.type == "cpu":
        return tensor
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
