"""Loads, inspects and writes back a model that is too large for one protobuf message.

    python samples/benchmarks/large_model.py | tee -a samples/benchmarks/results/large_model.jsonl

Makes a multi-layer perceptron with weights of `--gib` GiB in external data, in a temporary folder
below `--folder` (twice the size must fit), and runs each step in a process of its own. Prints one
line of JSON: seconds and peak resident memory of each step, the latter also as a multiple of the
weights. Pages of mapped files count as resident memory once they are read.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH = 8192
LAYER = 4 * WIDTH * WIDTH
CLASSES = 10


def write_model(path: Path, layers: int, seed: int, embedded: bool) -> int:
    """Writes the model layer by layer and returns the bytes of its weights."""
    rng = np.random.default_rng(seed)
    tensors, nodes, value, offset = [], [], "x", 0
    data = path.with_suffix(".weights")
    with data.open("wb") as file:
        for i in range(layers + 1):
            shape = [WIDTH, WIDTH if i < layers else CLASSES]
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            length = 4 * shape[0] * shape[1]
            for key, entry in (("location", data.name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(entry))
            (rng.standard_normal(shape, np.float32) / np.float32(WIDTH**0.5)).tofile(file)
            offset += length
            tensors.append(tensor)
            out = f"h{i}" if i < layers else "y"
            nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [out], name=f"layer{i}"))
            if i < layers:
                nodes.append(helper.make_node("Relu", [out], [f"r{i}"], name=f"relu{i}"))
            value = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    if embedded:
        onnx.save_model(onnx.load(path), path)
    return offset


def load(path: Path, copy: Path) -> None:
    from crespr_onnx.graph.load import load_model

    load_model(path)


def inspect(path: Path, copy: Path) -> None:
    from crespr_onnx.inspection import inspect_model

    found = inspect_model(path)
    assert found.max_ratio > 0.9
    assert found.macs == found.weights


def write_back(path: Path, copy: Path) -> None:
    from crespr_onnx.graph.load import load_model
    from crespr_onnx.graph.save import save_model

    save_model(load_model(path).model, copy)


def verify(path: Path, copy: Path) -> None:
    """One session on the file, one on the copy in memory."""
    from crespr_onnx.graph.load import load_model
    from crespr_onnx.graph.session import run

    batch = {"x": np.random.default_rng(0).standard_normal((1, WIDTH), np.float32)}
    first = run(path, batch)["y"]
    assert np.array_equal(first, run(load_model(copy).model, batch)["y"])


STEPS = {"load": load, "inspect": inspect, "write_back": write_back, "verify": verify}


def peak() -> int:
    """Most bytes that this process had in memory (getrusage would count its parent's as well)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def measure(step: str, path: Path, copy: Path) -> dict[str, float]:
    """Runs a step in a fresh process; seconds include the imports."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--step", step, "--paths", str(path), str(copy)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return {"seconds": round(time.perf_counter() - started, 2), "peak": int(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--gib", type=float, default=2.6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedded", action="store_true", help="all in one file, below 2 GiB")
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--paths", type=Path, nargs=2)
    args = parser.parse_args()
    if args.step:
        STEPS[args.step](*args.paths)
        print(peak())
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, copy = Path(folder) / "large.onnx", Path(folder) / "copy.onnx"
        layers = max(1, round(args.gib * 2**30 / LAYER))
        weights = write_model(path, layers, args.seed, args.embedded)
        steps = {step: measure(step, path, copy) for step in STEPS}
        for figures in steps.values():
            figures["peak_over_weights"] = round(figures["peak"] / weights, 2)
        line = {"weights": weights, "embedded": args.embedded, "seed": args.seed, **steps}
        print(json.dumps(line))


if __name__ == "__main__":
    main()
