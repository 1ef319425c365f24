"""Reads data in any of the three formats."""

from pathlib import Path

from crespr_onnx.data.checks import LABELS, check_samples, data_error
from crespr_onnx.data.function import read_function
from crespr_onnx.data.image_folder import load_image_folder
from crespr_onnx.data.normalisation import ImageOptions
from crespr_onnx.data.npz import read_npz
from crespr_onnx.data.samples import Samples
from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import ModelSignature
from crespr_onnx.named_function import is_function_spec

MAX_BYTES = 16 * 2**30


def load_data(
    source: str | Path,
    signature: ModelSignature,
    *,
    images: ImageOptions | None = None,
    min_samples: int = 1,
    max_bytes: int = MAX_BYTES,
) -> Samples:
    """Reads and checks data for a model.

    Args:
        source: an .npz file with an array per model input, named like it, and optionally `labels`;
            a folder with one folder of images per class; or module:function, called without
            arguments, that returns an iterable of (inputs dict, labels or None).
        signature: of the model.
        images: preprocessing, for a folder of images.
        min_samples: how many samples are needed.
        max_bytes: bound on the memory that the data takes.

    Raises:
        DataError: if the data cannot be read or does not fit the model.
    """
    path = Path(source)
    if path.is_dir():
        samples = load_image_folder(path, signature, images, max_bytes)
        if len(samples) < min_samples:
            raise data_error(
                f"{path}",
                f"has {len(samples)} samples; at least {min_samples} are needed",
                signature,
            )
        return samples
    if path.is_file():
        if path.suffix != ".npz":
            raise data_error(f"{path}", "is neither an .npz file nor a folder", signature)
        inputs = read_npz(path, max_bytes)
        own_input = any(spec.name == LABELS for spec in signature.inputs)
        labels = None if own_input else inputs.pop(LABELS, None)
    elif is_function_spec(str(source)):
        inputs, labels = read_function(str(source), signature, max_bytes)
    else:
        raise DataError(
            f"{source}: no such file or folder; give an .npz file, a folder of class folders, or "
            f"module:function. The model takes {signature}"
        )
    checked = check_samples(str(source), signature, inputs, labels, min_samples)
    return Samples(inputs=inputs, labels=checked)
