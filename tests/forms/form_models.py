"""Small split models, as `stages.lower.fold` leaves them."""

import numpy as np
import onnx
import onnx_ir as ir

from crespr_onnx.stages.prepare import infer_shapes


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def folded(text: str, marks: dict[str, dict[str, str]], **arrays: np.ndarray) -> ir.Model:
    """A model from the text of its graph; marks are those of the nodes that make these values."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> ' + text)
    for node in model.graph.node:
        node.name = node.output[0]
        for key, value in marks.get(node.name, {}).items():
            node.metadata_props.add(key=f"crespr.{key}", value=value)
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(model, full_check=True)
    result = ir.from_proto(model)
    infer_shapes(result)
    return result


def split(layer: str, clusters: int = 2) -> dict[str, str]:
    return {"layer": layer, "clusters": str(clusters)}


def conv_net(seed: int = 0) -> ir.Model:
    """A chain of two split layers, a dense layer, and a split layer that selects its inputs."""
    return folded(
        """g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
            one = Conv<group = 2>(x, w1, b1)
            r = Relu(one)
            two = Conv<group = 2>(r, w2)
            s = Sigmoid(two)
            t = Relu(s)
            mixed = Conv(t, w3)
            chosen = Gather<axis = 1>(mixed, reads)
            three = Conv<group = 2>(chosen, w4)
            y = Relu(three)
        }""",
        {
            "one": split("one"), "two": split("two"), "three": split("three"),
            "chosen": {"selection": "three"},
        },
        w1=normal(seed, 4, 2, 1, 1), b1=normal(seed + 1, 4), w2=normal(seed + 2, 4, 2, 1, 1),
        w3=normal(seed + 3, 6, 4, 1, 1), w4=normal(seed + 4, 4, 2, 1, 1),
        reads=np.array([5, 0, 1, 5], np.int32),
    )  # fmt: skip


SHAPES = {"x": (1, 4, 6, 6)}
