"""From which form of a model its artefact is compiled: float32, or narrower numbers."""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from crespr_onnx.errors import CompileError, VerificationError
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.deliver import Arrays, check_artefact, compile_target
from crespr_onnx.stages.prepare import Prepared
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.check import time_artefact

# Share of the largest output by which an artefact may differ from ONNX Runtime on the same model:
# another order of summing up can turn a rounding to the next step, and that goes on from there.
TOLERANCES = {"float16": 1e-2, "int8": 5e-2}


@dataclass(frozen=True)
class Chosen:
    """The artefact that is delivered.

    Attributes:
        artefact: what was compiled; its files are in the output folder.
        number_format: which form of the model it was compiled from.
        reason: why that one.
    """

    artefact: Artefact
    number_format: str
    reason: str


def compile_either(
    float32: tuple[Path, ir.Model],
    narrow: tuple[Path, ir.Model],
    prepared: Prepared,
    settings: CompressSettings,
    folder: Path,
    sample: Arrays,
) -> Chosen:
    """Compiles both forms, and keeps the narrow one if it was measured to take less time.

    Often it does not: TVM computes int8 models in float32 between roundings, and float16 by way of
    float32 on processors without arithmetic for it. So where time cannot be measured here, it is
    float32 as well, and the size of the other is told.

    Args:
        float32: file and content of the model in float32.
        narrow: the same in the number format of the settings.
        prepared: the input model.
        settings: target, number format and shapes.
        folder: receives the artefact.
        sample: a batch of one to compare and to time on.

    Raises:
        CompileError, VerificationError: if the float32 form cannot be compiled or computes
            something else.
    """
    name = settings.number_format
    wide = compile_target(*float32, prepared, settings, folder)
    runs = wide.place.ran != "nowhere"
    if runs:
        check_artefact(folder, float32[0], sample)
    # A folder of its own: the files of both have the same names.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        try:
            other = compile_target(*narrow, prepared, settings, Path(scratch))
            if runs:
                check_artefact(other.folder, narrow[0], sample, TOLERANCES[name])
        except (CompileError, VerificationError) as error:
            return Chosen(wide, "float32", f"from the {name} model it fails: {error}")
        pays, reason = _compare(wide, other, float32[0], sample, name)
        if not pays:
            return Chosen(wide, "float32", reason)
        for file in wide.files.keys() - other.files.keys():
            (folder / file).unlink()
        for file in other.files:
            os.replace(other.folder / file, folder / file)
    return Chosen(replace(other, folder=folder), name, reason)


def _compare(
    wide: Artefact, narrow: Artefact, model: Path, sample: Arrays, name: str
) -> tuple[bool, str]:
    """Whether the narrow artefact is the better one, with the figures."""
    sizes = [sum(artefact.files.values()) for artefact in (wide, narrow)]
    size = f"{sizes[1] / sizes[0]:.2f} times the bytes"
    if wide.place.ran != "here":
        return False, f"from the {name} model it takes {size}, and its time is not known here"
    # Each beside the same model in ONNX Runtime, so that what else the machine does cancels out.
    times = [time_artefact(artefact.folder, {"by": model}, sample) for artefact in (wide, narrow)]
    ratios = [each["compressed_tvm"] / each["by"] for each in times]
    factor = ratios[1] / ratios[0]
    return factor < 1.0, f"from the {name} model it takes {factor:.2f} times the time and {size}"
