"""Re-estimates the statistics of BatchNorm layers after weights have changed without training."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from crespr_onnx.training.objective import Batch


def reestimate_batch_norm(module: nn.Module, batches: Sequence[Batch]) -> int:
    """Replaces running means and variances by the averages over calibration batches, in place.

    All batches count the same (a cumulative average, "precise BatchNorm": Wu and Johnson 2021,
    arXiv 2105.07576, section 3). Weights and all other layers stay as they are.

    Args:
        module: the model; modes of its layers are afterwards as they were.
        batches: calibration data; a batch of one sample says nothing about variance and is left
            out.

    Returns:
        How many layers have new statistics: 0 if there is no BatchNorm or no batch to go by.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    usable = [batch for batch in batches if len(batch.inputs[0]) > 1]
    if not layers or not usable:
        return 0
    modes = {m: m.training for m in module.modules()}
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch's word for a cumulative average
        layer.train()
    try:
        with torch.no_grad():
            for batch in usable:
                module(*batch.inputs)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for m, training in modes.items():
            m.training = training
    return len(layers)
