"""Input shapes, and random inputs, that fit a signature."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.errors import UsageError
from crespr_onnx.graph.signature import ModelSignature, TensorSpec

Shapes = Mapping[str, Sequence[int]]
# Integer inputs are mostly indices into tables, of which few are shorter than this.
INDEX_LIMIT = 10


def open_shapes(
    signature: ModelSignature, batch: int = 1, given: Shapes | None = None
) -> dict[str, tuple[int | None, ...]]:
    """The shape of every input as far as it is known.

    A dynamic first axis has length `batch`, as has any other axis with the same symbol. Any other
    dynamic axis has the length in `given`, or None.

    Raises:
        UsageError: for a given shape that does not fit its input, or whose input does not exist.
    """
    given = given or {}
    specs = {spec.name: spec for spec in signature.inputs}
    for name, shape in given.items():
        if name not in specs:
            raise UsageError(
                f"a shape is given for input {name!r}, which the model does not have; "
                f"its signature is {signature}"
            )
        _check_fits(specs[name], shape)
    symbols = {spec.dims[0] for spec in signature.inputs if spec.dynamic_batch and spec.dims}
    shapes: dict[str, tuple[int | None, ...]] = {}
    for spec in signature.inputs:
        known = given.get(spec.name)
        shapes[spec.name] = tuple(
            dim
            if isinstance(dim, int)
            else batch
            if axis == 0 or (dim is not None and dim in symbols)
            else (known[axis] if known is not None else None)
            for axis, dim in enumerate(spec.dims or ())
        )
    return shapes


def input_shapes_for(
    signature: ModelSignature, batch: int = 1, given: Shapes | None = None
) -> dict[str, tuple[int, ...]]:
    """A fixed shape for every input; see `open_shapes`.

    Raises:
        UsageError: if a shape does not fit, or a dynamic axis besides the batch has none.
    """
    shapes = {}
    for spec, shape in zip(
        signature.inputs, open_shapes(signature, batch, given).values(), strict=True
    ):
        if None in shape:
            example = "x".join("N" if size is None else str(size) for size in shape)
            raise UsageError(
                f"input {spec} is dynamic on axis {shape.index(None)} besides the batch; "
                f"fix it with --input-shape {spec.name}:{example}, a number for each N"
            )
        shapes[spec.name] = tuple(size for size in shape if size is not None)
    return shapes


def _check_fits(spec: TensorSpec, shape: Sequence[int]) -> None:
    dims = spec.dims or ()
    fits = len(shape) == len(dims) and all(
        size > 0 and (size == dim or not isinstance(dim, int))
        for size, dim in zip(shape, dims, strict=True)
    )
    if not fits:
        raise UsageError(
            f"shape {'x'.join(map(str, shape))} does not fit input {spec}; "
            "give as many positive numbers, equal to those that are fixed"
        )


def random_inputs(
    signature: ModelSignature, rng: np.random.Generator, batch: int = 1, given: Shapes | None = None
) -> dict[str, NDArray[Any]]:
    """Draws all inputs of a model; see `input_shapes_for` and `random_array`.

    Raises:
        UsageError: if a shape is missing or does not fit, or an input cannot be drawn.
    """
    shapes = input_shapes_for(signature, batch, given)
    return {spec.name: random_array(spec, shapes[spec.name], rng) for spec in signature.inputs}


def random_array(
    spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[Any]:
    """Draws an input: normal floats, all values of 8-bit integers, small other integers, booleans.

    Raises:
        UsageError: if the input's type has no such rule.
    """
    dtype = spec.dtype
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        if dtype.itemsize == 1:
            info = np.iinfo(dtype)
            return rng.integers(info.min, info.max, shape, dtype=dtype.type, endpoint=True)
        return rng.integers(0, INDEX_LIMIT, shape, dtype=dtype.type)
    if dtype.kind == "f" or dtype.name == "bfloat16":
        return rng.standard_normal(shape).astype(dtype)
    raise UsageError(f"input {spec} cannot be drawn at random; give real inputs for it")
