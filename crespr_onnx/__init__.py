"""Makes trained ONNX models physically smaller for edge hardware, and proves it.

    >>> from pathlib import Path
    >>> import crespr_onnx
    >>> settings = crespr_onnx.CompressSettings(
    ...     model=Path("in.onnx"), ratio=0.98, target="cpu", data="train.npz"
    ... )
    >>> report = crespr_onnx.compress(settings)  # doctest: +SKIP

Names are imported when they are first used, so importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crespr_onnx.data.normalisation import ImageOptions
    from crespr_onnx.errors import (
        AccuracyGateError,
        CompileError,
        CresprError,
        DataError,
        ModelError,
        SpeedGateError,
        UsageError,
        VerificationError,
    )
    from crespr_onnx.graph.channels import find_channels
    from crespr_onnx.graph.load import load_model
    from crespr_onnx.graph.verify import verify
    from crespr_onnx.inspection import inspect_model
    from crespr_onnx.pipeline import compress, plan
    from crespr_onnx.settings import CompressSettings

    __version__: str

__all__ = [
    "AccuracyGateError",
    "CompileError",
    "CompressSettings",
    "CresprError",
    "DataError",
    "ImageOptions",
    "ModelError",
    "SpeedGateError",
    "UsageError",
    "VerificationError",
    "__version__",
    "compress",
    "find_channels",
    "inspect_model",
    "load_model",
    "plan",
    "verify",
]

_HOMES = {
    "AccuracyGateError": "errors",
    "CompileError": "errors",
    "CompressSettings": "settings",
    "CresprError": "errors",
    "DataError": "errors",
    "ImageOptions": "data.normalisation",
    "ModelError": "errors",
    "SpeedGateError": "errors",
    "UsageError": "errors",
    "VerificationError": "errors",
    "compress": "pipeline",
    "find_channels": "graph.channels",
    "inspect_model": "inspection",
    "load_model": "graph.load",
    "plan": "pipeline",
    "verify": "graph.verify",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Imports a public name from its home (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("crespr-onnx")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
