"""Batches, subsets and splits of samples."""

import numpy as np
import pytest

from crespr_onnx.data import ImageOptions, Normalisation, Samples
from crespr_onnx.errors import DataError, UsageError


def numbered(n: int, labels: np.ndarray | None = None) -> Samples:
    x = np.arange(n, dtype=np.float32).reshape(n, 1)
    return Samples({"x": x, "z": -x}, labels)


def test_batches_in_order() -> None:
    samples = numbered(5)
    assert len(samples) == 5
    batch = samples.batch(np.array([3, 1]))
    np.testing.assert_array_equal(batch["x"], [[3], [1]])
    np.testing.assert_array_equal(batch["z"], [[-3], [-1]])
    assert [len(b["x"]) for b in samples.batches(2)] == [2, 2, 1]
    np.testing.assert_array_equal(
        np.concatenate([b["x"] for b in samples.batches(2)])[:, 0], range(5)
    )


def test_a_subset_takes_its_labels() -> None:
    subset = numbered(4, np.array([5, 6, 7, 8])).subset(np.array([2, 0]))
    assert subset.labels is not None
    assert subset.labels.tolist() == [7, 5]
    assert subset.inputs["x"][:, 0].tolist() == [2, 0]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.37, 0.5, 0.999])
def test_a_split_parts_all_samples(fraction: float, labelled: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 100) if labelled else None
    rest, held = numbered(100, labels).split(fraction, seed=1)
    assert len(held) == min(max(round(100 * fraction), 1), 99)
    both = np.concatenate([rest.inputs["x"], held.inputs["x"]])[:, 0]
    assert sorted(both.tolist()) == list(range(100))
    assert np.all(np.diff(rest.inputs["x"][:, 0]) > 0)


def test_a_split_shares_out_every_class() -> None:
    labels = np.repeat([0, 1, 2], [10, 70, 120])
    _, held = numbered(200, labels).split(0.1, seed=3)
    assert held.labels is not None
    assert np.bincount(held.labels).tolist() == [1, 7, 12]


def test_a_split_depends_on_the_seed_alone() -> None:
    labels = np.arange(100) % 4
    parts = [numbered(100, labels).split(0.2, seed)[1].inputs["x"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(parts[0], parts[1])
    assert not np.array_equal(parts[0], parts[2])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_split_needs_a_share(fraction: float) -> None:
    with pytest.raises(UsageError, match=r"cannot hold out .*; give a share in \(0, 1\)"):
        numbered(10).split(fraction, seed=0)


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(DataError, match="the data has 1 sample and cannot be split"):
        numbered(1).split(0.5, seed=0)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_are_normalised_batch_by_batch(layout: str, dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    options = ImageOptions(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), scale=255.0)
    expected = (pixels.astype(np.float64) / 255 - options.mean) / options.std
    if layout == "NCHW":
        pixels, expected = (a.transpose(0, 3, 1, 2) for a in (pixels, expected))
    normalisation = Normalisation(options, layout, np.dtype(dtype))  # type: ignore[arg-type]
    samples = Samples({"x": pixels}, normalisation={"x": normalisation})
    batch = samples.batch(np.array([2, 0]))["x"]
    assert batch.dtype == dtype
    np.testing.assert_allclose(
        batch, expected[[2, 0]], rtol=0, atol=4e-3 if dtype is np.float16 else 2e-6
    )
    assert samples.split(0.5, 0)[0].batch(slice(None))["x"].dtype == dtype


@pytest.mark.parametrize(
    ("mean", "std", "scale", "match"),
    [
        ((0.1, 0.2), (1.0,), 255.0, "--image-mean is 0.1,0.2; give one number, or one per channel"),
        ((), (1.0,), 255.0, "--image-mean is ; give one"),
        ((float("nan"),), (1.0,), 255.0, "--image-mean is nan"),
        ((0.0,), (1.0, 0.0, 1.0), 255.0, "--image-std is 1,0,1; it must be positive"),
        ((0.0,), (1.0,), 0.0, "--image-scale is 0; it must be positive"),
        ((0.0,), (1.0,), float("inf"), "--image-scale is inf"),
    ],
)
def test_options_that_make_no_sense(
    mean: tuple[float, ...], std: tuple[float, ...], scale: float, match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        ImageOptions(mean, std, scale)
