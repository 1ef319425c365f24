"""Networks of small nodes, compiled and compared with ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model


class Net:
    """Many small nodes side by side, so that one compilation tries them all."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.inputs: dict[str, np.ndarray] = {}
        self.initializers: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []

    def input(self, *shape: int) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.rng.normal(size=shape).astype(np.float32)
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"y{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def outputs(self) -> list[str]:
        used = {name for node in self.nodes for name in node.input}
        return [node.output[0] for node in self.nodes if node.output[0] not in used]

    def save(self, folder: Path) -> Path:
        outputs = self.outputs()
        kind = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            self.nodes,
            "net",
            [onnx.helper.make_tensor_value_info(n, kind, a.shape) for n, a in self.inputs.items()],
            [onnx.helper.make_tensor_value_info(name, kind, None) for name in outputs],
            self.initializers,
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.save(model, folder / "net.onnx")
        return folder / "net.onnx"

    def check(self, folder: Path, threads: int = 1) -> None:
        outputs = self.outputs()
        self.save(folder)
        session = onnxruntime.InferenceSession(
            folder / "net.onnx", providers=["CPUExecutionProvider"]
        )
        expected = dict(zip(outputs, session.run(outputs, self.inputs), strict=True))
        compile_model(folder / "net.onnx", folder / "out", find_target("cpu"), threads=threads)
        found = run_artefact(folder / "out", self.inputs, threads=threads)
        for node in self.nodes:
            for name in set(node.output) & set(outputs):
                scale = np.abs(expected[name]).max()
                np.testing.assert_allclose(
                    found[name], expected[name], rtol=1e-4, atol=1e-5 * scale, err_msg=str(node)
                )
