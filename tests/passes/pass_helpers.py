"""What the tests of passes share: models from ONNX text, and the checks that every pass must pass.

Weights are given as arrays beside the text, since the text form has none at random.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]


def parse(text: str, opset: int = 17, **arrays: NDArray[np.generic]) -> onnx.ModelProto:
    """A model from the text of its graph; `__` in the name of an array stands for a dot."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}], metadata_props: ["user" : "kept"]> '
    model = onnx.parser.parse_model(header + text.replace("<>", ""))
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{i}"
    for name, array in arrays.items():
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name.replace("__", "."))
        model.graph.initializer.append(tensor)
    onnx.checker.check_model(model, full_check=True)
    return model


def mark(model: onnx.ModelProto, node: str, **properties: object) -> None:
    """Sets crespr.* properties of the node with this name."""
    (found,) = [n for n in model.graph.node if n.name == node]
    for key, value in properties.items():
        found.metadata_props.add(key=f"crespr.{key}", value=str(value))


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    """Random weights of a fixed seed."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model: onnx.ModelProto, batch: int) -> list[NDArray[np.generic]]:
    """Outputs in ONNX Runtime, without its optimisations, on random inputs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(7)
    feeds = {}
    for i in session.get_inputs():
        shape = [d if isinstance(d, int) else batch for d in i.shape]
        feeds[i.name] = random.normal(size=shape).astype(np.float32)
    return session.run(None, feeds)


def apply(
    pass_: ir.passes.PassBase, before: onnx.ModelProto, *, modified: bool = True
) -> onnx.ModelProto:
    """Runs a pass and checks what holds for all of them; returns the model afterwards."""
    model = ir.from_proto(before)
    result = pass_(model)
    assert result.modified == modified
    after = ir.to_proto(result.model)
    onnx.checker.check_model(after, full_check=True)
    assert_interface_kept(before, after)
    if not modified:
        assert nodes(after) == nodes(before)
    again = pass_(result.model)
    assert not again.modified, "a second run finds something to do"
    assert ir.to_proto(again.model) == after
    assert_same_outputs(before, after)
    return after


def assert_interface_kept(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Inputs, outputs, opset and metadata are what they were."""
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.opset_import) == list(before.opset_import)
    assert list(after.metadata_props) == list(before.metadata_props)


def assert_same_outputs(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Both compute the same in ONNX Runtime, for one sample and for three."""
    for batch in (1, 3):
        for expected, found in zip(run(before, batch), run(after, batch), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes as text: outputs, operator and inputs."""
    return [f"{', '.join(n.output)} = {n.op_type}({', '.join(n.input)})" for n in model.graph.node]


def text(lines: str) -> list[str]:
    """Lines of expected nodes."""
    return [line.strip() for line in lines.strip().splitlines()]


def ops(model: onnx.ModelProto) -> list[str]:
    """Operators in order."""
    return [node.op_type for node in model.graph.node]


def initializers(model: onnx.ModelProto) -> Arrays:
    """Arrays of the initializers."""
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def properties(model: onnx.ModelProto, names: Sequence[str]) -> list[dict[str, str]]:
    """metadata_props of the nodes with these names."""
    by_name = {n.name: {p.key: p.value for p in n.metadata_props} for n in model.graph.node}
    return [by_name[name] for name in names]
