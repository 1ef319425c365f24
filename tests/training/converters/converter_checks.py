"""What the tests of converters share: one node, in ONNX Runtime and as a module."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from crespr_onnx.errors import ModelError
from crespr_onnx.training.importer import ImportedModel, import_model

torch.set_num_threads(1)

Array = NDArray[Any]


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    """Random numbers of a fixed seed."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def ints(*values: int) -> Array:
    """A vector of whole numbers."""
    return np.array(values, np.int64)


def node_model(
    op: str,
    arrays: Sequence[Array | None],
    opset: int,
    fed: Sequence[int] = (0,),
    outputs: int | Sequence[str] = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node.

    Args:
        op: the operator.
        arrays: its inputs, None for one that is left out.
        opset: of the model.
        fed: indices of the inputs of the node that are inputs of the model; the first axis of those
            with several is dynamic. The others are initializers.
        outputs: how many there are, or their names.
        attributes: of the node.
    """
    names = [f"in{i}" if a is not None else "" for i, a in enumerate(arrays)]
    made = [f"out{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = onnx.helper.make_node(op, names, made, name="the_node", **attributes)
    inputs, initializers = [], []
    for i, a in enumerate(arrays):
        if a is None:
            continue
        if i in fed:
            shape: list[int | str] = list(a.shape)
            if a.ndim > 1:
                shape[0] = f"n{i}"
            kind = onnx.helper.np_dtype_to_tensor_dtype(a.dtype)
            inputs.append(onnx.helper.make_tensor_value_info(names[i], kind, shape))
        else:
            initializers.append(onnx.numpy_helper.from_array(a, names[i]))
    wanted = [onnx.helper.make_empty_tensor_value_info(name) for name in made if name]
    graph = onnx.helper.make_graph([node], "g", inputs, wanted, initializers)
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 20 else 10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def refusal(op: str, *arrays: Array | None, opset: int, **more: Any) -> str:
    """What is said of a node that cannot be imported."""
    with pytest.raises(ModelError) as error:
        import_model(ir.from_proto(node_model(op, arrays, opset, **more)))
    prefix = f"node 'the_node' ({op}, opset {opset}) cannot be trained: "
    ending = "; run with --epochs 0 and without --data, or export without it"
    text = str(error.value)
    assert text.startswith(prefix)
    assert text.endswith(ending)
    return text.removeprefix(prefix).removesuffix(ending)


def run_onnx(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """The outputs in ONNX Runtime, without its optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def run_module(imported: ImportedModel, feeds: Sequence[Array]) -> list[torch.Tensor]:
    """The outputs of the module in training mode, which must not matter."""
    found = imported.module.train()(*[torch.from_numpy(a) for a in feeds])
    return list(found) if isinstance(found, list | tuple) else [found]


def check(
    op: str,
    *arrays: Array | None,
    opset: int,
    fed: Sequence[int] = (0,),
    outputs: int | Sequence[str] = 1,
    tolerance: float = 1e-5,
    gradients: bool = True,
    **attributes: Any,
) -> ImportedModel:
    """Imports one node and compares it with ONNX Runtime, before and after training.

    Gradients must reach every weight. What is then written back must compute what the module does.
    """
    arrays = tuple(a if a is None else np.asarray(a) for a in arrays)
    model = ir.from_proto(node_model(op, arrays, opset, fed, outputs, **attributes))
    feeds = {f"in{i}": a for i, a in enumerate(arrays) if i in fed and a is not None}
    imported = import_model(model)
    found = compare(model, imported, feeds, tolerance)
    if gradients and found[0].is_floating_point() and imported.bindings:
        train(imported, feeds)
        imported.write_back(model)
        compare(model, imported, feeds, max(tolerance, 1e-4))
    return imported


def compare(
    model: ir.Model, imported: ImportedModel, feeds: dict[str, Array], tolerance: float
) -> list[torch.Tensor]:
    """Outputs of the module, after they were found to be those of the model."""
    expected = run_onnx(ir.to_proto(model), feeds)
    found = run_module(imported, list(feeds.values()))
    assert len(found) == len(expected)
    for torch_output, array in zip(found, expected, strict=True):
        result = torch_output.detach().numpy()
        assert (result.shape, result.dtype) == (array.shape, array.dtype)
        np.testing.assert_allclose(result, array, rtol=tolerance, atol=tolerance)
    return found


def train(imported: ImportedModel, feeds: dict[str, Array], steps: int = 2) -> None:
    """Plain SGD on the mean of the squared first output."""
    optimizer = torch.optim.SGD(imported.module.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        run_module(imported, list(feeds.values()))[0].float().square().mean().backward()
        for name in imported.bindings:
            gradient = imported.tensor(name).grad
            assert gradient is not None, f"no gradient reaches {name}"
            assert torch.isfinite(gradient).all()
        optimizer.step()
