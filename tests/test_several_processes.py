"""Several processes of a launcher train one model: the same that one process trains."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pipeline_models import compress, normal, write_data, write_mlp, write_model

from crespr_onnx import processes

OPTIONS = (
    "--ratio", "0.6", "--epochs", "5", "--batch-size", "25", "--threads", "1", "--clusters", "2",
    "--max-drop", "1", "--min-speedup", "0",
)  # fmt: skip
TWO_OUTPUTS = """g (float[N, 8] x) => (float[N, 3] y, float[4] z) {
    h = MatMul (x, w1)
    r = Relu (h)
    i = MatMul (r, h1)
    q = Relu (i)
    y = MatMul (q, w2)
    t = MatMul (x, w3)
    z = ReduceMean <axes = [0], keepdims = 0> (t)
}"""
"""w3 answers for the whole batch, which nothing is learned from: it has no gradient."""


def launch(folder: Path, *arguments: str, count: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs the command line in several processes that share nothing but the launcher."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(count),
        # As it calls several processes of one machine; its other way needs MPI.
        "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0", "-m", "crespr_onnx", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip


def weights(path: Path) -> dict[str, Any]:
    model = onnx.load(path)
    return {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    """A batch of 25 is one of 12 and one of 13, by the mean over all 25."""
    write_mlp(tmp_path)
    data = write_data(tmp_path / "data.npz", 200)
    assert compress(tmp_path, data=data, output=tmp_path / "one", batch_size=25).exit_code == 0
    run = launch(tmp_path, "compress", "mlp.onnx", "--data", data, *OPTIONS, "-o", "two", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["status"] == "ok", "one process prints"
    assert run.stderr.count("fine-tuning the small model") == 1
    one, two = weights(tmp_path / "one/model.onnx"), weights(tmp_path / "two/model.onnx")
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5)
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        p.name for p in (tmp_path / "one").iterdir()
    }


@pytest.mark.slow
def test_resuming_early_stopping_and_weights_without_a_gradient(tmp_path: Path) -> None:
    """What the processes must agree on besides the gradients."""
    write_model(
        tmp_path / "mlp.onnx", TWO_OUTPUTS, w1=normal(1, 8, 16), h1=normal(4, 16, 16),
        w2=normal(2, 16, 3), w3=normal(3, 8, 4),
    )  # fmt: skip
    data = write_data(tmp_path / "data.npz", 200)
    settings = {"data": data, "output": tmp_path / "one", "batch_size": 25, "patience": 1}
    assert compress(tmp_path, **settings).exit_code == 0
    arguments = ("compress", "mlp.onnx", "--data", data, *OPTIONS, "--patience", "1", "-o", "two")
    for resume in ((), ("--resume",)):
        run = launch(tmp_path, *arguments, *resume)
        assert run.returncode == 0, run.stderr
        one, two = weights(tmp_path / "one/model.onnx"), weights(tmp_path / "two/model.onnx")
        for name, array in one.items():
            np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_error_is_told_once(tmp_path: Path) -> None:
    write_mlp(tmp_path)
    run = launch(tmp_path, "compress", "mlp.onnx", *OPTIONS)
    assert run.returncode != 0
    assert run.stderr.count("error: --epochs 5 needs --data that the model was trained on") == 1
    assert not (tmp_path / "compressed-mlp").exists()


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (processes.count(), processes.index(), processes.on_this_machine()) == (1, 0, 1)
    assert processes.is_main()
    monkeypatch.setenv("WORLD_SIZE", "4")  # a scheduler's word for something else
    assert (processes.count(), processes.is_main()) == (1, True)


def test_a_launcher_numbers_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    assert (processes.count(), processes.index(), processes.on_this_machine()) == (8, 5, 4)
    assert not processes.is_main()
    monkeypatch.setenv("RANK", "0")
    assert processes.is_main()
