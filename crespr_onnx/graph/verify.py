"""Proves that two models have the same interface and compute the same."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from crespr_onnx.errors import ModelError, VerificationError
from crespr_onnx.graph.interface import check_same_interface
from crespr_onnx.graph.load import load_model
from crespr_onnx.graph.random_inputs import Shapes, random_inputs
from crespr_onnx.graph.session import AnyModel, Arrays, make_session, run
from crespr_onnx.graph.signature import ModelSignature, signature_of

OTHER_BATCH = 3


@dataclass(frozen=True)
class VerifyResult:
    """How far the outputs of two models are apart.

    Attributes:
        cases: how many sets of inputs both models ran on.
        max_abs_diff: largest absolute difference of any element of any output.
        max_rel_diff: largest absolute difference of an output, divided by the largest magnitude in
            that output of the reference. (Not element by element: an element near zero has no
            meaningful relative error of its own.)
        tolerance: bound on the relative difference, before the absolute tolerance is added.
        passed: whether every output was within the tolerances.
        worst: name of the output that is furthest off.
    """

    cases: int
    max_abs_diff: float
    max_rel_diff: float
    tolerance: float
    passed: bool
    worst: str

    def require(self) -> None:
        """Raises VerificationError unless the models agree."""
        if not self.passed:
            raise VerificationError(
                f"output {self.worst!r} differs by {self.max_rel_diff:.3g} relative to its largest "
                f"value ({self.max_abs_diff:.3g} absolute) in {self.cases} cases; "
                f"at most {self.tolerance:.3g} is allowed"
            )


def verify(
    a: AnyModel,
    b: AnyModel,
    *,
    cases: int = 3,
    seed: int = 0,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    input_shapes: Shapes | None = None,
    inputs: Iterable[Arrays] = (),
) -> VerifyResult:
    """Compares interface and outputs of two models in ONNX Runtime.

    Inputs are drawn per element type (see `random_inputs`). Where the batch is dynamic, sizes 1 and
    3 take turns, unless the reference itself cannot run on 3.

    Args:
        a: the reference. A path is read by `load_model`, with all its checks.
        b: the model that must agree with it.
        cases: how many random inputs, at least one.
        seed: of the random inputs.
        rtol: allowed difference, as a share of the largest magnitude in the reference's output.
        atol: allowed difference on top of that. Integer and boolean outputs must be equal.
        input_shapes: shapes for inputs with dynamic axes besides the first.
        inputs: real inputs to compare on as well, each an array per input.

    Raises:
        VerificationError: if the interfaces differ, the message says in what; or `b` fails on
            inputs on which `a` runs.
        UsageError: if `input_shapes` lacks a dynamic axis or does not fit.
        ModelError: if a model cannot be loaded, or the reference not be run.
    """
    model_a, model_b = _as_ir(a), _as_ir(b)
    signature = signature_of(model_a)
    check_same_interface(model_a, model_b)
    session_a, session_b = make_session(model_a), make_session(model_b)

    differences: list[_Difference] = []
    ran = 0
    drawn = _random_cases(signature, session_a, max(cases, 1), seed, input_shapes)
    given = ((arrays, run(session_a, arrays)) for arrays in inputs)
    for arrays, reference in chain(drawn, given):
        try:
            outputs = run(session_b, arrays)
        except ModelError as error:
            raise VerificationError(f"only the reference runs: {error}") from error
        differences += [_difference(n, reference[n], outputs[n], rtol, atol) for n in reference]
        ran += 1
    worst = max(differences, key=lambda d: (not d.within, d.relative))
    return VerifyResult(
        cases=ran,
        max_abs_diff=max(d.absolute for d in differences),
        max_rel_diff=max(d.relative for d in differences),
        tolerance=rtol,
        passed=worst.within,
        worst=worst.output,
    )


def _as_ir(model: AnyModel) -> ir.Model:
    if isinstance(model, Path):
        return load_model(model, quantised=True).model
    if isinstance(model, ir.Model):
        return model
    converted: ir.Model = ir.from_proto(model)
    return converted


def _random_cases(
    signature: ModelSignature,
    reference: ort.InferenceSession,
    cases: int,
    seed: int,
    input_shapes: Shapes | None,
) -> Iterator[tuple[Arrays, Arrays]]:
    """Random inputs with the outputs of the reference."""
    rng = np.random.default_rng(seed)
    batches = [1, OTHER_BATCH]
    for case in range(cases):
        batch = batches[case % len(batches)]
        try:
            yield _random_case(signature, reference, batch, rng, input_shapes)
        except ModelError:
            if batch == 1:
                raise
            # Some exporters freeze the batch inside of a model that declares it dynamic.
            batches = [1]
            yield _random_case(signature, reference, 1, rng, input_shapes)


def _random_case(
    signature: ModelSignature,
    reference: ort.InferenceSession,
    batch: int,
    rng: np.random.Generator,
    input_shapes: Shapes | None,
) -> tuple[Arrays, Arrays]:
    arrays = random_inputs(signature, rng, batch, input_shapes)
    return arrays, run(reference, arrays)


@dataclass(frozen=True)
class _Difference:
    output: str
    absolute: float
    relative: float
    within: bool


def _difference(
    name: str, expected: NDArray[Any], actual: NDArray[Any], rtol: float, atol: float
) -> _Difference:
    """How far one output is from the reference's."""
    if expected.shape != actual.shape:
        raise VerificationError(
            f"output {name!r} has shape {list(actual.shape)} where the reference gives "
            f"{list(expected.shape)}"
        )
    if expected.dtype.kind not in "fiub" and expected.dtype.name != "bfloat16":
        equal = bool(np.array_equal(expected, actual))
        return _Difference(name, *((0.0, 0.0) if equal else (math.inf, math.inf)), within=equal)
    exact = expected.dtype.kind in "iub"
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    # NaN and infinity agree where both models give the same; elsewhere they are infinitely far.
    same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    finite = np.isfinite(expected) & np.isfinite(actual)
    if not np.all(same | finite):
        return _Difference(name, math.inf, math.inf, within=False)
    absolute = float(np.max(np.abs(expected - actual), initial=0.0, where=finite))
    largest = float(np.max(np.abs(expected), initial=0.0, where=finite))
    relative = 0.0 if absolute == 0.0 else absolute / largest if largest else math.inf
    within = absolute <= (0.0 if exact else atol + rtol * largest)
    return _Difference(name, absolute, relative, within)
