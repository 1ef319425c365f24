"""One of our kernels alone, as it would be in a model with another tile."""

import tvm
from tvm import te, tirx

from crespr_onnx.targets.schedule.conv2d import compute_conv2d
from crespr_onnx.targets.schedule.matmul import compute_matmul
from crespr_onnx.targets.schedule.products import Convolution, Product
from crespr_onnx.targets.schedule.tiles import Tile


def standalone(product: Product, tile: Tile) -> tvm.tirx.PrimFunc:
    """A function of data, weights packed for the tile, perhaps positions, and the result.

    It is not scheduled yet, and nothing is fused into it.
    """
    arguments = [_placeholder("x", product.data), _placeholder("w", product.packed(tile))]
    if product.reads_shape is not None:
        arguments.append(_placeholder("reads", product.reads_shape, "int32"))
    x, w, *reads = arguments
    if isinstance(product, Convolution):
        result = compute_conv2d(x, w, product, tile, *reads)
    else:
        result = compute_matmul(x, w, product, tile, *reads)
    # As Relax does for functions of a model.
    return te.create_prim_func([*arguments, result], "int64")


def _placeholder(name: str, shape: tuple[int, ...], dtype: str = "float32") -> te.Tensor:
    return te.placeholder([tirx.const(size, "int64") for size in shape], dtype, name)
