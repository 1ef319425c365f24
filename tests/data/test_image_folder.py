"""Data from folders of images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crespr_onnx.data import ImageOptions, Samples, load_data
from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import Dim, ModelSignature, TensorSpec

PLAIN = ImageOptions(mean=(0.0,), std=(1.0,), scale=1.0)


def signature(*dims: Dim, dtype: Any = np.float32, classes: int | None = 2) -> ModelSignature:
    return ModelSignature(
        (TensorSpec("image", np.dtype(dtype), dims),),
        (TensorSpec("y", np.dtype(np.float32), ("n", classes)),),
    )


NCHW = signature("n", 3, 4, 6)


def pixels(seed: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; names sort in another order than they were made."""
    for seed, name in enumerate(["dog/2.png", "dog/10.PNG", "cat/1.png"]):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(seed)).save(path)
    return tmp_path / "train"


def load(folder: Path, model: ModelSignature = NCHW, **options: Any) -> Samples:
    return load_data(folder, model, images=options.pop("images", PLAIN), **options)


def test_classes_and_files_are_sorted(folder: Path) -> None:
    samples = load(folder)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1]
    assert samples.inputs["image"].dtype == np.uint8
    images = samples.batch(slice(None))["image"]
    assert images.dtype == np.float32
    for image, seed in zip(images, [2, 1, 0], strict=True):
        np.testing.assert_array_equal(image, pixels(seed).transpose(2, 0, 1))
    assert samples.notes == ("3 images in 2 classes: cat, dog",)


def test_channels_may_come_last(folder: Path) -> None:
    images = load(folder, signature("n", 4, 6, 3)).batch(slice(None))["image"]
    np.testing.assert_array_equal(images[2], pixels(0))


def test_one_channel_is_grey(folder: Path) -> None:
    images = load(folder, signature("n", 1, 4, 6)).batch(slice(None))["image"]
    grey = np.asarray(Image.fromarray(pixels(2)).convert("L"))
    np.testing.assert_array_equal(images[0, 0], grey)


def test_mean_std_and_scale(folder: Path) -> None:
    options = ImageOptions((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    image = load(folder, images=options).batch(np.array([0]))["image"][0]
    expected = (pixels(2) / 255.0 - options.mean) / options.std
    np.testing.assert_allclose(image, expected.transpose(2, 0, 1), atol=1e-6)


def test_a_model_of_raw_pixels(folder: Path) -> None:
    model = signature("n", 3, 4, 6, dtype=np.uint8)
    image = load(folder, model, images=None).batch(np.array([0]))["image"][0]
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels(2).transpose(2, 0, 1))
    with pytest.raises(DataError, match="the model reads raw pixels; leave mean, std and scale"):
        load(folder, model)


def test_other_sizes_are_resized_to_what_the_model_fixes(folder: Path) -> None:
    large = pixels(9, height=8, width=12)
    Image.fromarray(large).save(folder / "cat" / "1.png")
    samples = load(folder)
    assert samples.notes[1] == "1 images were resized to 6x4, which the model fixes"
    expected = np.asarray(Image.fromarray(large).resize((6, 4), Image.Resampling.BILINEAR))
    image = samples.batch(np.array([0]))["image"][0]
    np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))


def test_dynamic_sizes_need_equal_images(folder: Path) -> None:
    model = signature("n", 3, "h", "w")
    assert load(folder, model).inputs["image"].shape == (3, 3, 4, 6)
    Image.fromarray(pixels(9, height=8)).save(folder / "dog" / "2.png")
    with pytest.raises(DataError, match=r"dog/2\.png: is 6x8, the first image is 6x4; make them"):
        load(folder, model)


def test_hidden_and_other_files_are_left_alone(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "readme.txt").write_text("hello")
    (folder / "cat" / ".DS_Store").write_bytes(b"\x00")
    (folder / "cat" / "Thumbs.db").write_bytes(b"\x00")
    assert len(load(folder)) == 3


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (
            signature("n", 5, 4, 6),
            "input image takes no images, which need 4 axes, 1 or 3",
        ),
        (signature("n", 3, 4), "takes no images"),
        (signature("n", "c", 4, 6), "takes no images"),
        (signature("n", 3, 4, 6, dtype=np.int64), "images cannot become int64; give an .npz"),
        (signature("n", 3, 4, 6, classes=3), "has 2 class folders for 3 outputs; a label is the"),
        (ModelSignature(NCHW.inputs * 2, NCHW.outputs), "a folder of images feeds one input"),
    ],
)
def test_models_that_do_not_fit(folder: Path, model: ModelSignature, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(folder, model)
    assert str(caught.value).endswith(f"The model takes {model}")


def test_preprocessing_must_be_told(folder: Path) -> None:
    with pytest.raises(DataError, match=r"need the preprocessing .* give --image-mean, --image"):
        load(folder, images=None)
    with pytest.raises(DataError, match="--image-mean has 3 numbers for 1 channels"):
        load(folder, signature("n", 1, 4, 6), images=ImageOptions((0.1,) * 3, (1.0,)))


def test_too_few_and_too_many(folder: Path) -> None:
    with pytest.raises(DataError, match="has 3 samples; at least 4 are needed"):
        load(folder, min_samples=4)
    assert len(load(folder, max_bytes=3 * 72)) == 3
    with pytest.raises(DataError, match="3 images of 6x4 take more than the limit of 215 bytes"):
        load(folder, max_bytes=215)


def test_folders_without_images(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders; put the images of each class"):
        load(folder / "cat")
    (folder / "emu").mkdir()
    with pytest.raises(DataError, match=r"class folder 'emu' holds no images .* fill it or remove"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_files_that_are_no_images(folder: Path, content: bytes) -> None:
    (folder / "cat" / "2.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"cat/2\.jpg: is not a readable image \(.*; replace or"):
        load(folder)


def test_a_truncated_image(folder: Path) -> None:
    path = folder / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(DataError, match=r"dog/2\.png: is not a readable image"):
        load(folder)


def test_deep_images_are_not_clipped(folder: Path) -> None:
    Image.fromarray(np.full((4, 6), 60000, dtype=np.uint16)).save(folder / "cat" / "2.png")
    with pytest.raises(DataError, match=r"has more than 8 bits per channel .*; convert it"):
        load(folder)
