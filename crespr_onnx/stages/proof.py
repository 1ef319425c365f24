"""Proves that a graph pass did not change what a model computes."""

import numpy as np
import onnx_ir as ir

from crespr_onnx.data import Samples
from crespr_onnx.errors import VerificationError
from crespr_onnx.graph.verify import verify
from crespr_onnx.record import Verification
from crespr_onnx.settings import CompressSettings

REAL_SAMPLES = 16


def prove_equal(
    before: ir.Model,
    after: ir.Model,
    settings: CompressSettings,
    samples: Samples | None,
    earlier: Verification | None = None,
) -> Verification:
    """Compares two models on random and on real inputs.

    Args:
        before: the reference.
        after: what passes made of it.
        settings: shapes and seed.
        samples: real inputs, or None.
        earlier: what another proof of the same run found; the result holds the worse of the two.

    Raises:
        VerificationError: if they do not agree.
    """
    real = [] if samples is None else [samples.batch(np.arange(min(REAL_SAMPLES, len(samples))))]
    found = verify(
        before, after, seed=settings.seed, input_shapes=settings.input_shapes or None, inputs=real
    )
    try:
        found.require()
    except VerificationError as error:
        raise VerificationError(f"the passes changed what the model computes: {error}") from error
    return Verification(
        cases=found.cases + (earlier.cases if earlier else 0),
        max_abs_diff=max(found.max_abs_diff, earlier.max_abs_diff if earlier else 0.0),
        max_rel_diff=max(found.max_rel_diff, earlier.max_rel_diff if earlier else 0.0),
        tolerance=found.tolerance,
        passed=True,
    )
