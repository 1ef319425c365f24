"""The options of `compress` that are settings of a run, and the settings that they stand for."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crespr_onnx.commands.parameters import (
    F,
    auto_or_integer,
    file_name,
    input_shape_option,
    numbers,
)
from crespr_onnx.errors import UsageError

if TYPE_CHECKING:
    from crespr_onnx.data.normalisation import ImageOptions
    from crespr_onnx.settings import CompressSettings

# Defaults are those of CompressSettings, which takes a second to import; a test compares them.
SETTINGS = (
    click.option(
        "--ratio", type=float, required=True, help="Share of the weights that must go, as 0.98."
    ),
    click.option(
        "--mac-ratio",
        type=float,
        metavar="R",
        help="Share of the multiply-accumulates per sample that must go as well, as 0.95: early "
        "convolutions have few weights and most of the work.",
    ),
    click.option(
        "--target",
        default="onnx",
        show_default=True,
        help="Machine to make it for: see crespr-onnx targets.",
    ),
    click.option(
        "--data", type=file_name, metavar="DATA", help="Training or calibration data, see above."
    ),
    click.option(
        "--eval-data",
        type=file_name,
        metavar="DATA",
        help="Data to measure accuracy on; without it a tenth of --data is held out.",
    ),
    click.option(
        "-o",
        "--output",
        type=file_name,
        metavar="OUT_DIR",
        show_default="compressed-IN",
        help="Folder for the results.",
    ),
    click.option(
        "--image-mean",
        type=numbers,
        metavar="NUMBERS",
        help="For folders of images: mean of the scaled pixels, one number or one per channel.",
    ),
    click.option(
        "--image-std",
        type=numbers,
        metavar="NUMBERS",
        help="Their standard deviation, the same way.",
    ),
    click.option(
        "--image-scale",
        type=float,
        default=255.0,
        show_default=True,
        help="What pixels are divided by first.",
    ),
    click.option(
        "--criterion",
        default="magnitude",
        show_default=True,
        metavar="magnitude|taylor|hessian|lrp",
        help="How the importance of a weight is measured.",
    ),
    click.option(
        "--clusters",
        type=auto_or_integer,
        metavar="auto|K",
        default="auto",
        show_default=True,
        help="Clusters per channel group; auto tries several.",
    ),
    click.option(
        "--epochs",
        type=int,
        default=15,
        show_default=True,
        help="Passes over the data in all; 0 prunes at once and re-fits what stays to --data.",
    ),
    click.option(
        "--batch-size",
        type=int,
        default=128,
        show_default=True,
        help="Samples per training step.",
    ),
    click.option(
        "--lr", type=float, default=1e-2, show_default=True, help="Highest learning rate."
    ),
    click.option(
        "--loss",
        metavar="MODULE:FUNCTION",
        show_default="cross-entropy and distillation",
        help="Loss of your own, see above.",
    ),
    click.option(
        "--patience",
        type=int,
        metavar="N",
        help="Stop after N epochs without a lower loss on a tenth of --data, held out for that.",
    ),
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        metavar="auto|fp32|bf16",
        help="Of training; auto is bf16 on a GPU.",
    ),
    click.option(
        "--number-format",
        default="float32",
        show_default=True,
        metavar="float32|float16|int8",
        help="Of the emitted model; int8 is calibrated on --data. Reported against float32.",
    ),
    click.option(
        "--max-drop",
        type=float,
        default=0.05,
        show_default=True,
        help="Most that accuracy may drop, 0.05 being five points; else exit code 5.",
    ),
    click.option(
        "--min-speedup",
        type=float,
        default=1.0,
        show_default=True,
        help="Least speed-up over the dense model in ONNX Runtime, or with --rpc over the one that "
        "is compiled for the device; else exit code 6.",
    ),
    click.option(
        "--tune",
        type=int,
        metavar="N",
        default=0,
        show_default=True,
        help="Measure N candidates for every kernel of the artefact and keep the fastest.",
    ),
    click.option(
        "--tuning-records",
        type=file_name,
        metavar="FILE",
        show_default="in the user's cache folder",
        help="What tuning found, read and added to; with --tune 0 it is applied as it is.",
    ),
    click.option(
        "--rpc",
        metavar="HOST:PORT[/KEY]",
        help="Run, check and time the artefact on this TVM RPC server, or device of a tracker.",
    ),
    click.option(
        "--form",
        default="auto",
        show_default=True,
        metavar="auto|grouped|separate",
        help="How clusters are emitted: one operator per layer, one per cluster, or layer by layer "
        "whatever takes the least time.",
    ),
    input_shape_option,
    click.option(
        "--threads",
        type=int,
        show_default="one per core",
        help="Threads for training; latency is always measured on one.",
    ),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of everything random."
    ),
    click.option("--resume", is_flag=True, help="Go on with an interrupted run in OUT_DIR."),
    click.option("--force", is_flag=True, help="Replace the results in OUT_DIR."),
)


def settings_options(function: F) -> F:
    """All options of SETTINGS, in that order."""
    for option in reversed(SETTINGS):
        function = option(function)
    return function


def settings_from(options: Mapping[str, Any]) -> "CompressSettings":
    """The settings that options, by name with underscores, stand for.

    Raises:
        UsageError: if preprocessing is wrong or incomplete, or an input has two shapes.
    """
    from crespr_onnx.settings import CompressSettings

    values = dict(options)
    values["images"] = _images(*(values.pop(f"image_{name}") for name in ("mean", "std", "scale")))
    shapes = values.pop("input_shape")
    values["input_shapes"] = dict(shapes)
    if len(values["input_shapes"]) < len(shapes):
        raise UsageError("--input-shape names an input twice; give each input one shape")
    for name in ("model", "output"):
        values[name] = None if values[name] is None else Path(values[name])
    return CompressSettings(**values)


def _images(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, scale: float
) -> "ImageOptions | None":
    from crespr_onnx.data.normalisation import ImageOptions

    if mean is None and std is None:
        return None
    if mean is None or std is None:
        missing = "--image-mean" if mean is None else "--image-std"
        raise UsageError(f"{missing} is missing; --image-mean and --image-std go together")
    return ImageOptions(mean, std, scale)
