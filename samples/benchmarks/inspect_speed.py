"""Whether `inspect` takes time in proportion to the nodes of a model.

    python samples/benchmarks/inspect_speed.py --nodes 100 300 1000 3000 10000
    python samples/benchmarks/inspect_speed.py --models cifar_resnet56_bn.onnx --profile

Prints one JSON line per model: the best of --repeats, in seconds on the clock and of the CPU (which
a busy machine disturbs less), and the latter per node. The chain is Conv and Relu in turn; the
ResNet has an Add every fifth node.
"""

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crespr_onnx.inspection import inspect_model

CHANNELS = 8


class Builder:
    """Collects the nodes of a model that convolves images of 8x8."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def add(self, op: str, *inputs: str, **attributes: int | list[int]) -> str:
        """Appends a node; returns its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"n{len(self.nodes)}", **attributes))
        return name

    def conv(self, x: str) -> str:
        """Appends a convolution with weights of its own."""
        weight = self.rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32) / 9
        name = f"w{len(self.nodes)}"
        self.weights.append(numpy_helper.from_array(weight, name))
        return self.add("Conv", x, name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def model(self, last: str) -> onnx.ModelProto:
        """The model of all nodes so far, which returns one of their outputs."""
        shape = ["N", CHANNELS, 8, 8]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(nodes: int) -> onnx.ModelProto:
    made, x = Builder(), "x"
    while len(made.nodes) + 2 <= nodes:
        x = made.add("Relu", made.conv(x))
    return made.model(x)


def resnet(nodes: int) -> onnx.ModelProto:
    made = Builder()
    x = made.conv("x")
    while len(made.nodes) + 5 <= nodes:
        y = made.conv(made.add("Relu", made.conv(x)))
        x = made.add("Relu", made.add("Add", x, y))
    return made.model(made.conv(x))


GENERATED: dict[str, Callable[[int], onnx.ModelProto]] = {"chain": chain, "resnet": resnet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--nodes", type=int, nargs="*", default=[])
    parser.add_argument("--kind", choices=GENERATED, action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--profile", action="store_true", help="also where the time goes, on stderr"
    )
    arguments = parser.parse_args()
    inspect_model(_small())  # imports are not what is measured
    for path in arguments.models:
        measure(path.stem, path, arguments)
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kind or GENERATED:
            for nodes in arguments.nodes:
                path = Path(folder) / f"{kind}-{nodes}.onnx"
                onnx.save(GENERATED[kind](nodes), path)
                measure(path.stem, path, arguments)


def _small() -> Path:
    path = Path(tempfile.mkdtemp()) / "small.onnx"
    onnx.save(chain(4), path)
    return path


def measure(name: str, path: Path, arguments: argparse.Namespace) -> None:
    wall, cpu = [], []
    for _ in range(arguments.repeats):
        start, used = time.perf_counter(), time.process_time()
        found = inspect_model(path)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    nodes = sum(found.operators.values())
    line = {
        "model": name,
        "nodes": nodes,
        "seconds": round(min(wall), 3),
        "cpu_seconds": round(min(cpu), 3),
        "cpu_ms_per_node": round(1000 * min(cpu) / nodes, 3),
    }
    print(json.dumps(line), flush=True)
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(inspect_model, path)
        pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(25)


if __name__ == "__main__":
    main()
