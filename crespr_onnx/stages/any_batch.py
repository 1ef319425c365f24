"""Training needs batches: a model that is fixed to one sample takes them while it is worked on."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from crespr_onnx.errors import CresprError, ModelError
from crespr_onnx.graph.random_inputs import random_inputs
from crespr_onnx.graph.session import make_session, run
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.passes.free_batch import FreeBatch
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.prepare import Prepared, infer_shapes

_SAMPLES = 3
_TOLERANCE = 1e-4


def for_any_batch(prepared: Prepared, settings: CompressSettings) -> Prepared:
    """A prepared model that takes any number of samples, each treated for itself.

    Raises:
        ModelError: if the model is fixed to more than one sample, or does not treat them apart.
    """
    fixed = [s for s in prepared.loaded.signature.inputs if s.dims and not s.dynamic_batch]
    if not fixed:
        return prepared
    free = prepared.model.clone(deep_copy=True)
    if FreeBatch()(free).modified:
        infer_shapes(free)
        if _treats_samples_apart(prepared.model, free, settings):
            return replace(prepared, model=free)
    size = fixed[0].dims[0] if fixed[0].dims else 0
    raise ModelError(
        f"{prepared.loaded.path}: input '{fixed[0].name}' takes batches of exactly {size}; "
        "training and evaluation need any size: export the model with a dynamic first axis"
    )


def as_declared(model: ir.Model, prepared: Prepared) -> ir.Model:
    """A copy whose inputs and outputs have the shapes that the user's model declares."""
    copy = model.clone()
    declared = prepared.loaded.model.graph
    for ours, theirs in (
        *zip(copy.graph.inputs, declared.inputs, strict=True),
        *zip(copy.graph.outputs, declared.outputs, strict=True),
    ):
        ours.shape = theirs.shape
    return copy


def _treats_samples_apart(single: ir.Model, free: ir.Model, settings: CompressSettings) -> bool:
    """Whether several samples at once come out as one after the other does."""
    rng = np.random.default_rng(settings.seed)
    signature = signature_of(single)
    shapes = settings.input_shapes or None
    samples = [random_inputs(signature, rng, given=shapes) for _ in range(_SAMPLES)]
    session = make_session(single)
    expected = [run(session, sample) for sample in samples]
    together = {name: np.concatenate([s[name] for s in samples]) for name in samples[0]}
    try:
        found = run(make_session(free), together)
    except CresprError:
        return False
    for name, array in found.items():
        whole = np.concatenate([each[name] for each in expected])
        scale = float(np.abs(whole).max(initial=0.0)) or 1.0
        if array.shape != whole.shape or not np.abs(array - whole).max() <= _TOLERANCE * scale:
            return False
    return True
