"""Turns the MNIST and Fashion-MNIST archives into the data files that the benchmarks read.

    python samples/benchmarks/prepare_data.py --shared DIR --out OUT

DIR holds ``data/mnist.npz`` and ``data/fashion_mnist.npz`` (x_train, y_train, x_test, y_test;
images uint8 [n, 28, 28]). OUT gets ``mnist/``, ``fashion/`` (``input`` [n, 1, 28, 28]) and
``mlp/`` (the MNIST images as rows, ``input`` [n, 784]), each with ``train.npz`` and ``eval.npz``.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Mean and standard deviation of the MNIST training pixels, with which all models here were trained.
MEAN, STD = 0.1307, 0.3081

# Folder written -> archive read, shape of one sample.
SETS: dict[str, tuple[str, tuple[int, ...]]] = {
    "mnist": ("mnist.npz", (1, 28, 28)),
    "fashion": ("fashion_mnist.npz", (1, 28, 28)),
    "mlp": ("mnist.npz", (784,)),
}

# File written -> its half of the archive.
SPLITS = {"train": "train", "eval": "test"}


def normalise(images: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Pixels 0..255 as float32 [n, *shape], (x / 255 - mean) / std."""
    pixels = images.reshape(-1, *shape).astype(np.float32) / np.float32(255)
    pixels -= np.float32(MEAN)
    pixels /= np.float32(STD)
    return pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds data/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared sets")
    args = parser.parse_args()
    for name, (archive, shape) in SETS.items():
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        with np.load(args.shared / "data" / archive, allow_pickle=False) as arrays:
            for split, half in SPLITS.items():
                images = normalise(arrays[f"x_{half}"], shape)
                labels = arrays[f"y_{half}"].astype(np.int64)
                np.savez(folder / f"{split}.npz", input=images, labels=labels)
                print(f"{folder / split}.npz: input {images.shape}, labels {labels.shape}")


if __name__ == "__main__":
    main()
