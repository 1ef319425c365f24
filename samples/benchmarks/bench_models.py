"""The trained models that benchmarks compress, with their data."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from crespr_onnx import ImageOptions

CIFAR_IMAGES = ImageOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class BenchModel:
    """A trained model and what it is trained on.

    Attributes:
        model: file name in the folder of models, or in that of the prepared data.
        data: folder of train.npz and eval.npz in the prepared data, or "cifar".
        epochs: passes over the data that a benchmark spends on it, if not told otherwise.
        batch_size: samples per step.
        images: preprocessing, where the data is a folder of images.
    """

    model: str
    data: str
    epochs: int = 15
    batch_size: int = 128
    images: ImageOptions | None = None


BENCH_MODELS = {
    "mlp_mnist": BenchModel("mlp.onnx", "mlp"),
    "lenet5_mnist": BenchModel("lenet5_mnist.onnx", "mnist"),
    "lenet5_fashion": BenchModel("lenet5_fashion.onnx", "fashion"),
    "resnet20_cifar": BenchModel("cifar_resnet20_jpegft_bn.onnx", "cifar", 4, 64, CIFAR_IMAGES),
    "resnet56_cifar": BenchModel("cifar_resnet56_bn.onnx", "cifar", 4, 64, CIFAR_IMAGES),
}


def add_locations(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where models and data are."""
    parser.add_argument("--models", type=Path, required=True, help="folder of trained .onnx files")
    parser.add_argument("--data", type=Path, required=True, help="output of prepare_data.py")
    parser.add_argument("--cifar", type=Path, help="folder with train/<class> and test/<class>")


def locate(bench: BenchModel, arguments: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Where the model, its training data and its evaluation data are.

    Raises:
        SystemExit: if the CIFAR-10 images are needed and nobody said where they are.
    """
    model = arguments.models / bench.model
    if not model.exists():
        model = arguments.data / bench.model
    if bench.data != "cifar":
        folder = arguments.data / bench.data
        return model, folder / "train.npz", folder / "eval.npz"
    if arguments.cifar is None:
        raise SystemExit(f"{bench.model} needs --cifar, a folder with train/<class>, test/<class>")
    return model, arguments.cifar / "train", arguments.cifar / "test"
