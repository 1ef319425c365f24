"""Batches from a Python function of the user's, named module:function."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.data.checks import check_names, data_error
from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import ModelSignature
from crespr_onnx.named_function import current_folder_first, failed, import_function

Arrays = dict[str, NDArray[Any]]


def read_function(
    spec: str, signature: ModelSignature, max_bytes: int
) -> tuple[Arrays, NDArray[Any] | None]:
    """Calls the function, without arguments, and joins the batches that it returns.

    Args:
        spec: module:function; modules of the current folder can be imported.
        signature: of the model.
        max_bytes: bound on all batches together, so that an endless iterable ends.

    Raises:
        DataError: if the function cannot be imported or fails, or a batch is not a pair of a dict
            of arrays and labels or None.
    """
    inputs: dict[str, list[NDArray[Any]]] = {}
    labels: list[NDArray[Any]] = []
    count = total = 0
    for batch in _batches(spec):
        arrays, classes = _unpack(spec, signature, batch, count)
        if count and (classes is not None) != bool(labels):
            raise data_error(
                spec, f"only some batches have labels (batch {count} differs)", signature
            )
        for name, array in arrays.items():
            inputs.setdefault(name, []).append(array)
        if classes is not None:
            labels.append(classes)
        count += 1
        total += sum(array.nbytes for array in arrays.values())
        if total > max_bytes:
            raise DataError(
                f"{spec}: returned more than the limit of {max_bytes} bytes in {count} batches; "
                "is the iterable endless? Return fewer samples"
            )
    if not count:
        raise data_error(spec, "returned no batches", signature)
    try:
        joined = {name: np.concatenate(parts) for name, parts in inputs.items()}
        return joined, np.concatenate(labels) if labels else None
    except ValueError as error:
        raise data_error(spec, f"the batches do not fit together: {error}", signature) from error


def _batches(spec: str) -> Iterator[object]:
    function = import_function(spec, DataError)
    with current_folder_first():
        try:
            result = function()
            if not isinstance(result, Iterable):
                raise DataError(
                    f"{spec}: returned {type(result).__name__}; return an iterable of "
                    "(inputs dict, labels or None)"
                )
            yield from result
        except DataError:
            raise
        # Whatever a user's function raises is a fault of the data, told in one line.
        except Exception as error:
            raise failed(spec, "calling it", error, DataError) from error


def _unpack(
    spec: str, signature: ModelSignature, batch: object, number: int
) -> tuple[Arrays, NDArray[Any] | None]:
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise data_error(
            spec,
            f"batch {number} is {type(batch).__name__}, not a pair (inputs dict, labels or None)",
            signature,
        )
    inputs, labels = batch
    if not isinstance(inputs, Mapping):
        raise data_error(
            spec,
            f"the inputs of batch {number} are {type(inputs).__name__}, not a dict of arrays",
            signature,
        )
    check_names(spec, signature, inputs)
    arrays = {name: _array(spec, signature, name, value) for name, value in inputs.items()}
    return arrays, None if labels is None else _array(spec, signature, "labels", labels)


def _array(spec: str, signature: ModelSignature, name: str, value: object) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise data_error(spec, f"{name} is no array: {error}", signature) from error
    if array.dtype.hasobject or not array.ndim:
        raise data_error(
            spec, f"{name} is {type(value).__name__}, not an array of numbers", signature
        )
    return array
