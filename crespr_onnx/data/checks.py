"""Checks arrays against a model's signature; each message shows the signature."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import ModelSignature, TensorSpec

LABELS = "labels"


def check_samples(
    source: str,
    signature: ModelSignature,
    inputs: Mapping[str, NDArray[Any]],
    labels: NDArray[Any] | None,
    min_samples: int,
) -> NDArray[np.int64] | None:
    """Checks a data set as a whole.

    Args:
        source: what messages call the data.
        signature: of the model.
        inputs: array per model input, first axis samples.
        labels: class of each sample.
        min_samples: how many samples there must be.

    Returns:
        The labels as int64.

    Raises:
        DataError: for names, types, shapes, lengths, values or labels that do not fit.
    """
    check_names(source, signature, inputs)
    symbols: dict[str, tuple[int, str]] = {}
    for spec in signature.inputs:
        _check_array(source, signature, spec, inputs[spec.name])
        _check_symbols(source, signature, spec, inputs[spec.name], symbols)
    lengths = {name: len(array) for name, array in inputs.items()}
    if labels is not None:
        if labels.ndim != 1:
            raise data_error(
                source,
                f"labels have shape {list(labels.shape)}; give one class number per sample "
                "(argmax(axis=1) of one-hot labels)",
                signature,
            )
        lengths[LABELS] = len(labels)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise data_error(source, f"the numbers of samples differ: {listed}", signature)
    count = len(inputs[signature.inputs[0].name])
    if count < max(min_samples, 1):
        raise data_error(
            source, f"has {count} samples; at least {max(min_samples, 1)} are needed", signature
        )
    return None if labels is None else _check_labels(source, signature, labels)


def check_names(source: str, signature: ModelSignature, inputs: Mapping[str, object]) -> None:
    """Refuses inputs that the model does not have, and the lack of those it has.

    Raises:
        DataError: naming them.
    """
    wanted = {spec.name for spec in signature.inputs}
    unknown, missing = sorted(inputs.keys() - wanted), sorted(wanted - inputs.keys())
    if unknown:
        raise data_error(
            source,
            f"holds {', '.join(unknown)}, which the model has no input for; name arrays like the "
            f"inputs{'' if LABELS in wanted else ', and classes labels'}",
            signature,
        )
    if missing:
        raise data_error(
            source, f"lacks {', '.join(missing)}; give an array for every input", signature
        )


def data_error(source: str, what: str, signature: ModelSignature) -> DataError:
    """A DataError in the common form."""
    return DataError(f"{source}: {what}. The model takes {signature}")


def _check_array(
    source: str, signature: ModelSignature, spec: TensorSpec, array: NDArray[Any]
) -> None:
    if not spec.dims:
        raise data_error(
            source,
            f"input {spec.name} is a single value, so it has no axis for samples; "
            "make it a constant of the model",
            signature,
        )
    if array.dtype != spec.dtype:
        raise data_error(
            source,
            f"{spec.name} is {array.dtype}, not {spec.dtype}; convert it with "
            f".astype({str(spec.dtype)!r}), normalised as in training",
            signature,
        )
    wanted = spec.dims[1:]
    fits = array.ndim == len(spec.dims) and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(wanted, array.shape[1:], strict=True)
    )
    if not fits:
        expected = ", ".join(["N", *("any" if not isinstance(d, int) else str(d) for d in wanted)])
        raise data_error(
            source,
            f"{spec.name} has shape {list(array.shape)}; [{expected}] is needed, N samples first",
            signature,
        )
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if bad.any():
            raise data_error(
                source,
                f"{spec.name} has NaN or infinity in {int(bad.sum())} samples, first in sample "
                f"{int(bad.argmax())}; remove or repair them",
                signature,
            )


def _check_symbols(
    source: str,
    signature: ModelSignature,
    spec: TensorSpec,
    array: NDArray[Any],
    symbols: dict[str, tuple[int, str]],
) -> None:
    """Axes with the same symbol must have the same length; the first axis is compared later."""
    for dim, size in zip((spec.dims or ())[1:], array.shape[1:], strict=True):
        if isinstance(dim, str):
            known, where = symbols.setdefault(dim, (size, spec.name))
            if known != size:
                raise data_error(
                    source,
                    f"{dim} is {known} in {where} but {size} in {spec.name}; it must be the same",
                    signature,
                )


def _check_labels(
    source: str, signature: ModelSignature, labels: NDArray[Any]
) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise data_error(
            source,
            f"labels are {labels.dtype}; give class numbers, .astype('int64')",
            signature,
        )
    classes = signature.classes
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        allowed = "0 or more" if classes is None else f"0 to {classes - 1}"
        bad = low if low < 0 else high
        raise data_error(
            source, f"labels go from {low} to {high}; {bad} is out of range, {allowed}", signature
        )
    return labels.astype(np.int64)
