"""Compiling for this machine: the artefact computes what ONNX Runtime computes."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from crespr_onnx.errors import CompileError
from crespr_onnx.targets import find_target
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.check import run_artefact, time_artefact
from crespr_onnx.targets.compile import compile_model

CPU = find_target("cpu")


def save(folder: Path, text: str, weights: dict[str, tuple[int, ...]] | None = None) -> Path:
    """A model from ONNX text, with random initializers of the given shapes."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text)
    rng = np.random.default_rng(0)
    for name, shape in (weights or {}).items():
        array = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.checker.check_model(model)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def small_net(folder: Path) -> Path:
    return save(
        folder,
        """small (float[batch, 4, 6, 6] x) => (float[batch, 8, 6, 6] maps,
            float[batch, 5] logits) {
            c = Conv <group = 2, kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1, b1)
            maps = Relu (c)
            pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (maps)
            flat = Flatten <axis = 1> (pooled)
            logits = Gemm <transB = 1> (flat, w2, b2)
        }""",
        {"w1": (8, 2, 3, 3), "b1": (8,), "w2": (5, 72), "b2": (5,)},
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[Path, Artefact]:
    """A small net and its artefact for a batch of one."""
    folder = tmp_path_factory.mktemp("compiled")
    path = small_net(folder)
    return path, compile_model(path, folder / "out", CPU, {"x": (1, 4, 6, 6)})


def inputs_for(path: Path, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    name = onnx.load(path).graph.input[0].name
    return {name: np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def expected(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def test_artefact_computes_the_same_under_the_same_names(tmp_path):
    path = small_net(tmp_path)
    artefact = compile_model(path, tmp_path / "out", CPU, {"x": (3, 4, 6, 6)})
    inputs = inputs_for(path, (3, 4, 6, 6))
    outputs = run_artefact(artefact.folder, inputs)
    reference = expected(path, inputs)
    assert list(outputs) == ["maps", "logits"]
    for name, array in reference.items():
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5)


def test_artefact_is_what_its_manifest_says(compiled):
    _, artefact = compiled
    assert artefact.files == {file.name: file.stat().st_size for file in artefact.folder.iterdir()}
    assert set(artefact.files) == {"model.so", "artefact.json", "run.py"}
    assert 0 < artefact.seconds < 60
    manifest = json.loads((artefact.folder / "artefact.json").read_text())
    assert manifest["inputs"] == [{"name": "x", "shape": [1, 4, 6, 6], "dtype": "float32"}]
    assert [(o["name"], o["shape"]) for o in manifest["outputs"]] == [
        ("maps", [1, 8, 6, 6]),
        ("logits", [1, 5]),
    ]
    assert manifest["target"]["kind"] == "llvm"
    assert manifest["target"]["num-cores"] == 1
    assert manifest["target"]["mcpu"]
    assert set(manifest["versions"]) == {"apache-tvm", "apache-tvm-ffi"}


def test_same_model_gives_the_same_bytes_in_another_process(tmp_path, compiled):
    path, first = compiled
    second = compile_model(path, tmp_path / "again", CPU, {"x": (1, 4, 6, 6)})
    for name in first.files:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


def test_folder_runs_without_this_package(tmp_path, compiled):
    path, artefact = compiled
    inputs = inputs_for(path, (1, 4, 6, 6))
    np.save(tmp_path / "x.npy", inputs["x"])
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'crespr_onnx', 'tvm'))\n"
        "import numpy as np\n"
        "from run import load_artefact\n"
        "x, y = sys.argv[1:]\n"
        "np.save(y, load_artefact('.')({'x': np.load(x)})['logits'])"
    )
    files = [str(tmp_path / name) for name in ("x.npy", "y.npy")]
    command = [sys.executable, "-c", code, *files]
    subprocess.run(command, cwd=artefact.folder, check=True, timeout=60)
    reference = expected(path, inputs)["logits"]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), reference, rtol=1e-4, atol=1e-5)


def test_times_every_engine(compiled):
    path, artefact = compiled
    times = time_artefact(
        artefact.folder,
        {"dense_onnxruntime": path, "compressed_onnxruntime": path},
        inputs_for(path, (1, 4, 6, 6)),
        rounds=3,
        round_seconds=0.001,
    )
    assert set(times) == {"dense_onnxruntime", "compressed_onnxruntime", "compressed_tvm"}
    assert all(0 < value < 1000 for value in times.values())


def test_open_input_shape_is_asked_for(tmp_path):
    message = r"input 'x' has shape \['batch', 4, 6, 6\].*--input-shape x:"
    with pytest.raises(CompileError, match=message):
        compile_model(small_net(tmp_path), tmp_path / "out", CPU)
    assert not any((tmp_path / "out").iterdir())


def test_negative_size_is_an_open_one(tmp_path):
    path = save(tmp_path, "g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, path)
    artefact = compile_model(path, tmp_path / "out", CPU, {"x": (2, 3)})
    manifest = json.loads((artefact.folder / "artefact.json").read_text())
    assert manifest["inputs"][0]["shape"] == [2, 3]
    with pytest.raises(CompileError, match=r"input 'x' has shape \['\?', 3\], but compiling needs"):
        compile_model(path, tmp_path / "out", CPU)


def test_shape_that_contradicts_the_model(tmp_path):
    with pytest.raises(CompileError, match=r"'x' has shape .* which \[1, 3, 6, 6\] does not fit"):
        compile_model(small_net(tmp_path), tmp_path / "out", CPU, {"x": (1, 3, 6, 6)})


def test_shape_for_an_unknown_input(tmp_path):
    with pytest.raises(CompileError, match=r"no input 'y' to give a shape to; the model takes 'x'"):
        compile_model(small_net(tmp_path), tmp_path / "out", CPU, {"y": (1, 4, 6, 6)})


def test_operator_that_tvm_does_not_know_is_named(tmp_path):
    path = save(
        tmp_path,
        """g (float[4, 2, 3] x) => (float[4, 1, 2, 5] y) {
            y = LSTM <hidden_size = 5> (x, w, r)
        }""",
        {"w": (1, 20, 3), "r": (1, 20, 5)},
    )
    model = onnx.load(path)
    model.graph.node[0].name = "memory"
    onnx.save(model, path)
    with pytest.raises(CompileError, match=r"TVM cannot import node 'memory' \(LSTM\)") as caught:
        compile_model(path, tmp_path / "out", CPU)
    assert len(str(caught.value).splitlines()) <= 2


def test_operator_of_another_domain_is_refused(tmp_path):
    path = save(tmp_path, "g (float[4] x) => (float[4] y) { y = Relu (x) }")
    model = onnx.load(path)
    model.graph.node[0].name, model.graph.node[0].domain = "mine", "com.example"
    onnx.save(model, path)
    with pytest.raises(CompileError, match=r"node 'mine': it is com\.example::Relu"):
        compile_model(path, tmp_path / "out", CPU)


def test_target_that_does_not_compile(tmp_path):
    with pytest.raises(CompileError, match="nothing is compiled for target 'onnx'"):
        compile_model(small_net(tmp_path), tmp_path / "out", find_target("onnx"))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": np.zeros((1, 4, 6, 6), np.float32)}, r"inputs are \['y'\].*takes \['x'\]"),
        (
            {"x": np.zeros((2, 4, 6, 6), np.float32)},
            r"'x' is float32\[2, 4, 6, 6\].*\[1, 4, 6, 6\]",
        ),
        ({"x": np.zeros((1, 4, 6, 6))}, r"'x' is float64\[1, 4, 6, 6\].*float32"),
    ],
)
def test_wrong_inputs_are_told(compiled, inputs, message):
    with pytest.raises(CompileError, match=message):
        run_artefact(compiled[1].folder, inputs)


def test_runtime_beside_the_model_is_taken(tmp_path, compiled):
    path, artefact = compiled
    inputs = inputs_for(path, (1, 4, 6, 6))
    np.save(tmp_path / "x.npy", inputs["x"])
    for name in artefact.files:
        shutil.copy(artefact.folder / name, tmp_path / name)
    runtime = distribution("apache-tvm").locate_file("tvm/lib/libtvm_runtime.so")
    shutil.copy(str(runtime), tmp_path / "libtvm_runtime.so")
    # As on a board, where only apache-tvm-ffi is installed.
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'crespr_onnx', 'tvm'))\n"
        "import numpy as np, run\n"
        "def nowhere(name): raise run.PackageNotFoundError(name)\n"
        "run.distribution = nowhere\n"
        "np.save('y.npy', run.load_artefact('.')({'x': np.load('x.npy')})['logits'])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    reference = expected(path, inputs)["logits"]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), reference, rtol=1e-4, atol=1e-5)
    (tmp_path / "libtvm_runtime.so").unlink()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "FileNotFoundError: no libtvm_runtime.so in ., nor the Python package" in done.stderr
