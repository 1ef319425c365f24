"""Split layers as the split emits them, for the tests of the passes behind it."""

import numpy as np
import onnx
from pass_helpers import mark, normal, parse


def batched(layer: str, source: str, target: str) -> str:
    """Nodes of a batched dense layer from one value to another."""
    return f"""
        {layer}_r = Reshape({source}, {layer}_in)
        {layer}_t = Transpose<perm = [1, 0, 2]>({layer}_r)
        {layer}_p = MatMul({layer}_t, {layer}_w)
        {layer}_s = Add({layer}_p, {layer}_b)
        {layer}_u = Transpose<perm = [1, 0, 2]>({layer}_s)
        {target} = Reshape({layer}_u, {layer}_out)
    """


def batched_arrays(
    layer: str, clusters: int, n: int, m: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Initializers of a batched dense layer."""
    return {
        f"{layer}_in": np.array([-1, clusters, n]),
        f"{layer}_w": normal(seed, clusters, n, m),
        f"{layer}_b": normal(seed + 1, clusters, 1, m),
        f"{layer}_out": np.array([-1, clusters * m]),
    }


def mark_batched(model: onnx.ModelProto, clusters: int) -> None:
    """Marks every batched MatMul, named after the layer in its output `<layer>_p`."""
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.output[0].endswith("_p"):
            layer = node.output[0].removesuffix("_p")
            node.name = f"{layer}/matmul"
            mark(model, node.name, clusters=clusters, layer=layer)


def two_convs(between: str = "r = Relu(a)", *, group: int = 2, tail: str = "") -> onnx.ModelProto:
    """Two grouped Convs of 4 channels on 6 x 6, the second reads r; marked conv1 and conv2."""
    model = parse(
        f"""
        g (float[N, 4, 6, 6] x) => (float[N, C, H, W] y) {{
            a = Conv<group = {group}, pads = [1, 1, 1, 1]>(x, w1, b1)
            {between}
            y = Conv<group = {group}>(r, w2)
            {tail}
        }}""",
        w1=normal(0, 4, 4 // group, 3, 3),
        b1=normal(1, 4),
        w2=normal(2, 4, 4 // group, 1, 1),
        **constants(between),
    )
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    for i, node in enumerate((convs[0], convs[-1]), start=1):
        node.name = f"conv{i}"
        mark(model, node.name, clusters=group, layer=node.name)
    return model


CONSTANTS = {
    "low": np.float32(0.0),
    "high": np.float32(6.0),
    "vector": normal(10, 4) ** 2 + 0.1,
    "column": normal(11, 4, 1, 1),
    "row": normal(12, 6),
    "depthwise": normal(13, 4, 1, 3, 3),
    "dense": normal(15, 4, 4, 1, 1),
    "bias4": normal(14, 4),
    "spatial_pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "starts": np.array([0, 0]),
    "ends": np.array([5, 5]),
    "axes23": np.array([2, 3]),
    "axes_last": np.array([-1, -2]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "resized": np.array([1, 4, 12, 12]),
}


def constants(nodes: str) -> dict[str, np.ndarray]:
    """Those of the constants above that are mentioned."""
    words = set(nodes.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: array for name, array in CONSTANTS.items() if name in words}
