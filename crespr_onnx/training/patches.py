"""What a weighted edge multiplies its weights with: one row per place where it puts them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from crespr_onnx.layout import IntArray, WeightedEdge
from crespr_onnx.training.converters.node import Apply
from crespr_onnx.training.converters.pad import pad_constant
from crespr_onnx.training.converters.windows import Windows
from crespr_onnx.training.importer import ImportedModel

BLOCK = 2**22
"""Most numbers in one block of rows, unless a single sample has more."""
POSITIONS = 64
"""Most positions of a sample that become rows: those of an image say much the same."""


def why_unreadable(imported: ImportedModel, edge: WeightedEdge) -> str | None:
    """Why the rows of an edge cannot be told, or None if they can."""
    if edge.frozen is not None:
        return edge.frozen
    if edge.op == "ConvTranspose":
        return "transposed convolutions are left as they are"
    if edge.name not in imported.modules:
        return f"{edge.op} '{edge.name}' has no module of its own"
    return None


def row_blocks(
    imported: ImportedModel, edge: WeightedEdge, x: Tensor, y: Tensor, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """What an edge reads and what it answers, row by row, in blocks of bounded size.

    Args:
        imported: the model.
        edge: one for which `why_unreadable` is None.
        x: its input for a batch.
        y: its output for the same.
        rng: draws the positions, the same ones for all samples of the batch, if there are many.

    Yields:
        Rows read, [rows, n_in * kernel], taps innermost, and rows answered, [rows, n_out].
    """
    if not edge.is_convolution:
        # [samples, ..., channels] -> [samples, channels, positions]
        x, y = (t.unsqueeze(1).flatten(1, -2).transpose(1, 2) for t in (x, y))
        taps = np.arange(x.shape[2])[:, None]
    else:
        module = imported.module.get_submodule(imported.modules[edge.name])
        windows = _windows(module, imported.tensor(edge.weight))
        x = pad_constant(x, [(0, 0), (0, 0), *windows.padding(tuple(x.shape[2:]))], 0.0)
        taps = _taps(windows, tuple(x.shape[2:]))
        x, y = x.flatten(2), y.flatten(2)
    chosen = np.sort(rng.permutation(len(taps))[:POSITIONS])
    index, places = (torch.from_numpy(a).to(x.device) for a in (taps[chosen], chosen))
    n = max(1, BLOCK // max(1, x.shape[1] * index.numel()))
    for part, replies in zip(torch.split(x, n), torch.split(y, n), strict=True):
        rows = part[:, :, index].transpose(1, 2).flatten(0, 1).flatten(1)
        yield rows, replies[:, :, places].transpose(1, 2).flatten(0, 1)


def _taps(windows: Windows, sizes: tuple[int, ...]) -> IntArray:
    """Where each tap of each position reads in an input that is padded and flattened.

    Args:
        windows: how the convolution slides.
        sizes: spatial sizes of the padded input.

    Returns:
        Shape [positions, taps], positions and taps in the order of their axes.
    """
    index = np.zeros((1, 1), dtype=np.int64)
    for axis, size in enumerate(sizes):
        last = size - windows.extents[axis]
        starts = np.arange(0, last + 1, windows.strides[axis])
        offsets = np.arange(windows.kernel[axis]) * windows.dilations[axis]
        here = starts[:, None] + offsets
        index = index[:, None, :, None] * size + here[None, :, None, :]
        index = index.reshape(index.shape[0] * index.shape[1], -1)
    return index


def _windows(module: nn.Module, weight: Tensor) -> Windows:
    """How a convolution slides, be it a layer of PyTorch or a function."""
    if isinstance(module, Apply):
        windows = module.settings["windows"]
        assert isinstance(windows, Windows)
        return windows
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    assert not isinstance(module.padding, str)
    return Windows(
        kernel=tuple(weight.shape[2:]),
        strides=tuple(module.stride),
        dilations=tuple(module.dilation),
        pads=tuple((p, p) for p in module.padding),
    )
