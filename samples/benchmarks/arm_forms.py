"""Instructions of one split layer on ARM in each of its forms, counted under emulation.

    python samples/benchmarks/arm_forms.py --out samples/benchmarks/results/arm_forms.jsonl
    python samples/benchmarks/arm_forms.py --table samples/benchmarks/results/arm_forms.jsonl

A layer of K clusters, each of which reads its own part of the input, followed by a Relu: as one
grouped convolution or batched product, as K operators behind a Split, and merged back to a dense
one, whose weights between clusters are zeros. All are built in plain C, where calling a kernel
costs next to nothing, for both targets; counted as in `arm_instructions`. One JSON line per layer,
K, form and target.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from instruction_trace import TARGETS, totals, trace
from json_lines import read_lines, show_line
from onnx import TensorProto, helper, numpy_helper

from crespr_onnx.targets import find_target
from crespr_onnx.targets.emulate import build_program

CLUSTERS = (2, 4, 8, 16, 32)
FORMS = ("grouped", "separate", "dense")


@dataclass(frozen=True)
class Layer:
    """A layer with as many outputs as inputs.

    Attributes:
        channels: how many.
        side: height and width of the image that a 3x3 convolution reads; 0 for a linear layer.
    """

    channels: int
    side: int = 0

    @property
    def name(self) -> str:
        """What tables call it."""
        what = f"3x3 convolution, {self.side}x{self.side}" if self.side else "linear"
        return f"{what}, {self.channels} channels"

    def macs(self, clusters: int) -> int:
        """Multiply-accumulates of one inference."""
        return self.channels**2 // clusters * max(1, 9 * self.side**2)


LAYERS = (Layer(64, 16), Layer(128, 8), Layer(512), Layer(1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, nargs="+", default=CLUSTERS)
    parser.add_argument("--targets", choices=TARGETS, nargs="+", default=TARGETS)
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    parser.add_argument("--table", type=Path, metavar="RECORDS", help="print their table instead")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(read_lines(arguments.table)))
        return
    for layer in LAYERS:
        for record in records(layer, arguments.clusters, arguments.targets):
            show_line(record, arguments.out)


def records(layer: Layer, clusters: list[int], targets: list[str]) -> Iterator[dict[str, Any]]:
    """Counts a layer in all forms; the dense one is the same for every K."""
    for target in targets:
        for form in FORMS:
            for count in clusters if form != "dense" else [1]:
                yield {
                    "layer": layer.name,
                    "target": target,
                    "form": form,
                    "clusters": count,
                    "macs": layer.macs(count),
                    **counted(model_of(layer, count, form), target),
                    "versions": {"apache-tvm": version("apache-tvm")},
                }


def model_of(layer: Layer, clusters: int, form: str) -> onnx.ModelProto:
    """One layer and its Relu; the weights are random."""
    rng = np.random.default_rng(0)
    part = layer.channels // clusters
    shape = [1, layer.channels, *[layer.side] * (2 if layer.side else 0)]
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(*dims: int) -> str:
        array = rng.standard_normal(dims, np.float32) / np.float32(part)
        weights.append(numpy_helper.from_array(array, f"w{len(weights)}"))
        return weights[-1].name

    def constant(*values: int) -> str:
        weights.append(numpy_helper.from_array(np.array(values, np.int64), f"c{len(weights)}"))
        return weights[-1].name

    def node(op: str, inputs: list[str], outputs: int = 1, **attributes: object) -> list[str]:
        names = [f"v{len(nodes)}_{i}" for i in range(outputs)]
        nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def product(data: str, outputs: int, inputs: int, groups: int = 1) -> str:
        if layer.side:
            kernel = weight(outputs, inputs // groups, 3, 3)
            return node("Conv", [data, kernel], pads=[1] * 4, group=groups)[0]
        if groups == 1:
            return node("MatMul", [data, weight(inputs, outputs)])[0]
        (parted,) = node("Reshape", [data, constant(groups, 1, inputs // groups)])
        kernel = weight(groups, inputs // groups, outputs // groups)
        (products,) = node("MatMul", [parted, kernel])
        return node("Reshape", [products, constant(1, outputs)])[0]

    if form == "separate":
        pieces = node("Split", ["x"], clusters, axis=1)
        done = [product(piece, part, part) for piece in pieces]
        (result,) = node("Concat", done, axis=1)
    else:
        groups = 1 if form == "dense" else clusters
        result = product("x", layer.channels, layer.channels, groups)
    nodes.append(helper.make_node("Relu", [result], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "layer", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def counted(model: onnx.ModelProto, target: str) -> Mapping[str, int]:
    """Compiles a model in plain C and counts one inference behind another."""
    # tvm_ffi imports PyTorch when it finds it, which takes seconds and serves no purpose here.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from crespr_onnx.targets.build_c import build_archive
    from crespr_onnx.targets.tvm_import import import_onnx

    found = find_target(target)
    assert found.system is not None
    (value,) = model.graph.input
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model, folder / "model.onnx")
        np.save(folder / "x.npy", np.ones(shape, np.float32))
        library = folder / "libmodel.a"
        specs = [{"name": end, "shape": shape, "dtype": "float32"} for end in "xy"]
        plan = build_archive(
            library, import_onnx(folder / "model.onnx", {}), {**found.tvm, "num-cores": 1},
            found.system, specs[:1], specs[1:],
        )  # fmt: skip
        program = build_program(folder, found.system, library)
        command = [str(program), str(folder / "x.npy"), "-n", "1"]
        window = trace(command, found.system, timeout=600.0)[-2]
    return {**totals(window), "kernels": len(plan.steps)}


def table(found: list[Mapping[str, Any]]) -> str:
    """Markdown: instructions of each form over those of the grouped one, by layer and K."""
    cells = {(r["layer"], r["target"], r["form"], r["clusters"]): r["instructions"] for r in found}
    lines = [
        "| layer | target | clusters | grouped or batched | per MAC | separate over it "
        "| dense over it |",
        "|---" * 7 + "|",
    ]
    for record in found:
        if record["form"] != "grouped":
            continue
        layer, target, count = record["layer"], record["target"], record["clusters"]
        base = record["instructions"]
        others = (layer, target, "separate", count), (layer, target, "dense", 1)
        row = [layer, target, str(count), f"{base:,}", f"{base / record['macs']:.2f}"]
        row += [f"{cells[other] / base:.2f}" if other in cells else "-" for other in others]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
