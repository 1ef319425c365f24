"""Which engine says how fast the forms of an artefact are."""

from crespr_onnx.forms.engine import Engine
from crespr_onnx.forms.engine_estimate import Estimated
from crespr_onnx.forms.engine_tvm import Compiled
from crespr_onnx.targets.remote import Board
from crespr_onnx.targets.system import is_here
from crespr_onnx.targets.target import Target

X86_LANES, NEON_LANES = 8, 4
"""float32 numbers in a vector register of AVX2 and of NEON."""
NEVER_TIMED = "not measured: no form has been timed on a CUDA device, so grouped is kept"


def engine_for(target: Target, board: Board | None) -> Engine | None:
    """The engine for artefacts of a target, or None where nothing is known of its forms.

    Args:
        target: one that compiles.
        board: where the artefact is run, if not here.
    """
    if target.tvm.get("kind") == "cuda":
        return None
    here = is_here(target.system)
    lanes = X86_LANES if here else NEON_LANES
    if here or board is not None:
        return Compiled(target, lanes, board)
    return Estimated(target, lanes)
