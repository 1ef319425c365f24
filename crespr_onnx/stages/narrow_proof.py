"""How far a model in narrower numbers is from the float32 model that it was made from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.data import Samples
from crespr_onnx.errors import ModelError, VerificationError
from crespr_onnx.graph.interface import check_same_interface
from crespr_onnx.graph.random_inputs import random_inputs
from crespr_onnx.graph.session import make_session, run
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.record import NumberFormat
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.measure import measure_quality
from crespr_onnx.stages.narrow import Narrowed, narrow_layers

Array = NDArray[np.floating[Any]]

SAMPLES = 256
_BATCH = 32


@dataclass(frozen=True)
class Distance:
    """Largest differences between the outputs of two models; see `record.NumberFormat`."""

    cases: int
    max_abs_diff: float
    max_rel_diff: float


def describe_narrow(
    dense: ir.Model,
    float32: ir.Model,
    narrowed: Narrowed,
    samples: Samples | None,
    settings: CompressSettings,
) -> NumberFormat:
    """What is known of a narrow model before it is compiled and timed.

    Args:
        dense: the user's model, against which the metric is measured.
        float32: the compressed model.
        narrowed: what was made of it.
        samples: evaluation samples, or None.
        settings: number format, shapes and seed.

    Raises:
        VerificationError: see `compare`.
    """
    distance = compare(float32, narrowed.model, samples, settings)
    metric = measure_quality(dense, float32, samples, settings)
    return NumberFormat(
        name=settings.number_format,
        method=narrowed.method,
        calibration_samples=narrowed.samples,
        cases=distance.cases,
        max_abs_diff=distance.max_abs_diff,
        max_rel_diff=distance.max_rel_diff,
        metric_float32=None if metric is None else metric.compressed,
        layers=narrow_layers(narrowed.model),
    )


def compare(
    float32: ir.Model, narrow: ir.Model, samples: Samples | None, settings: CompressSettings
) -> Distance:
    """Runs both models on evaluation samples, or on random numbers where there are none.

    There is no bound on the difference here: rounding moves every output, and the accuracy that is
    measured tells whether that matters. Outputs of integers are left out for the same reason.

    Raises:
        VerificationError: if the narrow model has another interface, does not run, or gives
            something that is no number where the float32 model gives one.
    """
    same_opset = narrow.clone()
    same_opset.opset_imports[""] = float32.opset_imports[""]
    check_same_interface(float32, same_opset)
    if samples is not None:
        batches = list(samples.subset(np.arange(min(SAMPLES, len(samples)))).batches(_BATCH))
    else:
        rng = np.random.default_rng(settings.seed)
        shapes = settings.input_shapes or None
        batches = [random_inputs(signature_of(float32), rng, 1, shapes)]
    try:
        sessions = make_session(float32), make_session(narrow)
        answers = [(run(sessions[0], batch), run(sessions[1], batch)) for batch in batches]
    except ModelError as error:
        raise VerificationError(f"the {settings.number_format} model fails: {error}") from error
    absolute, relative = 0.0, 0.0
    for name, reference in answers[0][0].items():
        if reference.dtype.kind == "f":
            wide, found = (np.concatenate([a[i][name].ravel() for a in answers]) for i in (0, 1))
            gap, size = _gap(name, wide, found, settings.number_format)
            absolute, relative = max(absolute, gap), max(relative, gap / (size or 1.0))
    return Distance(sum(len(next(iter(b.values()))) for b in batches), absolute, relative)


def _gap(name: str, wide: Array, found: Array, number_format: str) -> tuple[float, float]:
    """Largest difference, and largest magnitude, of one output where the float32 one is finite."""
    known = np.isfinite(wide)
    if found.shape != wide.shape or not np.isfinite(found[known]).all():
        raise VerificationError(
            f"output {name!r} of the {number_format} model has another shape, or is not finite, "
            "where the float32 model is well; take another --number-format"
        )
    wide, found = wide[known].astype(np.float64), found[known].astype(np.float64)
    gap = np.abs(wide - found).max(initial=0.0)
    return float(gap), float(np.abs(wide).max(initial=0.0))
