"""The committed sample is what its README says."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "samples" / "digits"


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(FOLDER / name, allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["input", "labels"]
        return arrays["input"], arrays["labels"]


@pytest.mark.parametrize(("name", "samples"), [("train.npz", 1437), ("eval.npz", 360)])
def test_data_has_the_recorded_form(name: str, samples: int) -> None:
    images, labels = load(name)
    assert (images.dtype, images.shape) == (np.float32, (samples, 1, 8, 8))
    assert (labels.dtype, labels.shape) == (np.int64, (samples,))
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert sorted(np.unique(labels)) == list(range(10))


def test_train_and_eval_share_no_image() -> None:
    seen = {image.tobytes() for image in load("train.npz")[0]}
    assert not [i for i, image in enumerate(load("eval.npz")[0]) if image.tobytes() in seen]


def test_model_reaches_the_recorded_accuracy() -> None:
    images, labels = load("eval.npz")
    session = ort.InferenceSession(FOLDER / "digits.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": images})
    right = int((logits.argmax(axis=1) == labels).sum())
    # The kernels of another processor may turn one borderline image.
    assert abs(right - 358) <= 1
    assert "(358 of 360)" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_model_keeps_its_batch_norms_in_inference_mode() -> None:
    model = onnx.load(FOLDER / "digits.onnx")
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    modes = [a.i for node in norms for a in node.attribute if a.name == "training_mode"]
    assert len(norms) == 3
    assert not any(modes)
    assert [len(node.output) for node in norms] == [1, 1, 1]


def test_model_has_the_recorded_weights_and_a_free_batch_axis() -> None:
    model = onnx.load(FOLDER / "digits.onnx")
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    assert sum(int(np.prod(tensor.dims)) for tensor in weights) == 89_632
    (entry,) = model.graph.input
    assert entry.type.tensor_type.shape.dim[0].dim_param == "batch"
