"""Data from a function of the user's."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crespr_onnx.data import Samples, load_data
from crespr_onnx.errors import DataError
from crespr_onnx.graph.signature import ModelSignature, TensorSpec

F4 = np.dtype(np.float32)
SIGNATURE = ModelSignature((TensorSpec("x", F4, ("n", 2)),), (TensorSpec("y", F4, ("n", 3)),))

Load = Callable[..., Samples]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes a module into the current folder and loads data from its function `batches`."""
    monkeypatch.chdir(tmp_path)
    name = f"user_{abs(hash(tmp_path))}"

    def run(body: str, max_bytes: int = 2**20) -> Samples:
        text = f"import numpy as np\nX = np.ones((2, 2), np.float32)\ndef batches():\n    {body}\n"
        (tmp_path / f"{name}.py").write_text(text)
        try:
            return load_data(f"{name}:batches", SIGNATURE, max_bytes=max_bytes)
        finally:
            sys.modules.pop(name, None)

    return run


def test_joins_the_batches(load: Load) -> None:
    before = list(sys.path)
    samples = load("return [({'x': X}, [0, 1]), ({'x': 2 * X[:1]}, np.array([2]))]")
    np.testing.assert_array_equal(samples.inputs["x"], [[1, 1], [1, 1], [2, 2]])
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]
    assert sys.path == before


def test_a_generator_without_labels(load: Load) -> None:
    samples = load("yield from (({'x': X}, None) for _ in range(3))")
    assert len(samples) == 6
    assert samples.labels is None


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("return 5", r"returned int; return an iterable of \(inputs dict, labels or None\)"),
        ("return []", "returned no batches"),
        ("return [X]", r"batch 0 is ndarray, not a pair \(inputs dict, labels or None\)"),
        ("return [(X, None)]", "the inputs of batch 0 are ndarray, not a dict of arrays"),
        ("return [({'z': X}, None)]", "holds z, which the model has no input for"),
        ("return [({}, None)]", "lacks x; give an array for every input"),
        ("return [({'x': 1.0}, None)]", "x is float, not an array of numbers"),
        ("return [({'x': [object()]}, None)]", "x is list, not an array of numbers"),
        ("return [({'x': [[1], [1, 2]]}, None)]", "x is no array: setting an array element"),
        ("return [({'x': X}, None), ({'x': X}, [0, 1])]", "some batches have labels .batch 1 dif"),
        ("return [({'x': X}, [0, 1]), ({'x': X}, None)]", "only some batches have labels"),
        ("return [({'x': X}, None), ({'x': X[:, :1]}, None)]", "the batches do not fit together"),
        ("return [({'x': X}, [0, 3])]", "labels go from 0 to 3; 3 is out of range, 0 to 2"),
        ("return [({'x': X}, [0])]", "numbers of samples differ: x has 2, labels has 1"),
        ("return [({'x': X.astype('f8')}, None)]", "x is float64, not float32"),
        ("return [({'x': X * np.inf}, None)]", "x has NaN or infinity in 2 samples"),
        ("raise KeyError('train')", "calling it failed with KeyError: 'train'"),
        ("yield 1 / 0", "calling it failed with ZeroDivisionError: division by zero"),
        (
            "while True: yield {'x': X}, None",
            "the limit of 1048576 bytes in 65537 batches",
        ),
    ],
)
def test_refuses(load: Load, body: str, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(body)
    assert caught.value.exit_code == 4


def test_names_that_are_not_there(load: Load) -> None:
    with pytest.raises(DataError, match="no module named 'no_such_module'; run in the folder"):
        load_data("no_such_module:batches", SIGNATURE)
    with pytest.raises(DataError, match="json:no_such: the module has no function 'no_such'"):
        load_data("json:no_such", SIGNATURE)
    with pytest.raises(DataError, match="the module has no function '__name__'"):
        load_data("json:__name__", SIGNATURE)


def test_a_module_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_user_data.py").write_text("def batches(:\n")
    with pytest.raises(DataError, match="importing it failed with SyntaxError: invalid syntax"):
        load_data("broken_user_data:batches", SIGNATURE)
    (tmp_path / "needy_user_data.py").write_text("import not_installed_here\n")
    with pytest.raises(DataError, match="no module named 'not_installed_here'"):
        load_data("needy_user_data:batches", SIGNATURE)
