"""Imported models: what is trainable, what is tied, and that training comes back whole."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from training_models import array, cnn, mlp, normal, parse, run

from crespr_onnx.errors import ModelError
from crespr_onnx.training.importer import ImportedModel, import_model

torch.set_num_threads(1)

NORMALISED = """g (float[N, 4] x) => (float[N, 4] y) {
    h = MatMul (x, w)
    n = LayerNormalization (h, gain, offset)
    s = Mul (n, half)
    y = Add (s, b)
}"""


def normalised() -> ir.Model:
    half = np.array(0.5, np.float32)
    arrays = {"w": normal(0, 4, 4), "gain": normal(1, 4), "offset": normal(2, 4), "b": normal(3, 4)}
    return parse(NORMALISED, half=half, **arrays)


MODELS = {"mlp": mlp(), "cnn": cnn(), "normalised": normalised()}


def train(imported: ImportedModel, x: np.ndarray, steps: int = 2) -> np.ndarray:
    """Plain SGD on the squared output; what the module answers afterwards, in inference."""
    module = imported.module.eval()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.from_numpy(x)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def inputs(model: ir.Model) -> np.ndarray:
    shape = list(model.graph.inputs[0].shape or ())[1:]
    return normal(9, 5, *(int(dim) for dim in shape))


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("mlp", ["b1", "b2", "b3", "w1", "w2", "w3"]),
        ("cnn", ["b1", "scale", "shift", "w1", "w2", "w3"]),
        ("normalised", ["b", "gain", "offset", "w"]),
    ],
)
def test_every_trainable_initializer_is_one_parameter(name: str, trainable: Sequence[str]) -> None:
    imported = import_model(MODELS[name])
    found = {n: imported.tensor(n) for n in imported.bindings}
    assert sorted(n for n, t in found.items() if isinstance(t, nn.Parameter)) == trainable
    # No parameter besides, and none for two initializers.
    bound = [id(t) for t in found.values() if isinstance(t, nn.Parameter)]
    assert sorted(bound) == sorted(id(p) for p in imported.module.parameters())


def test_running_statistics_are_bound_but_not_trained() -> None:
    imported = import_model(MODELS["cnn"])
    for name in ("mean", "var"):
        tensor = imported.tensor(name)
        assert not isinstance(tensor, nn.Parameter)
        np.testing.assert_array_equal(tensor.numpy(), array(MODELS["cnn"], name))


def test_a_scalar_constant_stays_a_setting() -> None:
    assert "half" not in import_model(MODELS["normalised"]).bindings


@pytest.mark.parametrize("name", MODELS)
def test_module_computes_what_the_model_computes(name: str) -> None:
    model = MODELS[name]
    module, x = import_model(model).module.eval(), inputs(model)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, run(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_write_back_without_training_changes_nothing(name: str) -> None:
    model = MODELS[name].clone(deep_copy=True)
    import_model(model).write_back(model)
    assert ir.to_proto(model) == ir.to_proto(MODELS[name])


@pytest.mark.parametrize("name", MODELS)
def test_write_back_after_training_gives_what_the_module_computes(name: str) -> None:
    model = MODELS[name].clone(deep_copy=True)
    imported, x = import_model(model), inputs(model)
    expected = train(imported, x)
    imported.write_back(model)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - run(MODELS[name], x)).max() > 1e-4, "nothing was learned"
    trained = [n for n in imported.bindings if n not in ("mean", "var")]
    assert all((array(model, n) != array(MODELS[name], n)).any() for n in trained)


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_with_alpha_and_beta(trans: int) -> None:
    text = f"""g (float[N, 4] x) => (float[N, 3] y) {{
        y = Gemm <alpha = 0.25, beta = 2.0, transB = {trans}> (x, w, b)
    }}"""
    weight = normal(0, 4, 3)
    model = parse(text, w=weight.T if trans else weight, b=normal(1, 3))
    x = normal(2, 5, 4)
    imported = import_model(model)
    binding = imported.bindings["w"]
    assert (binding.transposed, binding.scale) == (trans == 0, 0.25)
    assert imported.bindings["b"].scale == 2.0
    np.testing.assert_allclose(imported.tensor("w").detach().numpy(), 0.25 * weight.T, rtol=1e-6)
    imported.write_back(model)
    np.testing.assert_array_equal(array(model, "w"), weight.T if trans else weight)
    expected = train(imported, x)
    imported.write_back(model)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)


SHARED = {
    "matmul": "h = MatMul (x, w) r = Relu (h) y = MatMul (r, w)",
    "gemm": "h = Gemm (x, w) r = Relu (h) y = Gemm (r, w)",
    "gemm_transposed": "h = Gemm <transB = 1> (x, w) r = Relu (h) y = Gemm <transB = 1> (r, w)",
    "matmul_then_gemm": "h = MatMul (x, w) r = Relu (h) y = Gemm <transB = 1> (r, w)",
    "gemm_then_matmul": "h = Gemm <transB = 1> (x, w) r = Relu (h) y = MatMul (r, w)",
}
SHARED_IN_DIFFERENT_WAYS = {
    "autoencoder": "h = Gemm (x, w) r = Relu (h) y = Gemm <transB = 1> (r, w)",
    "gemm_then_matmul": "h = Gemm (x, w) r = Relu (h) y = MatMul (r, w)",
    "matmul_then_gemm": "h = MatMul (x, w) r = Relu (h) y = Gemm (r, w)",
    "alphas": "h = Gemm <alpha = 0.5> (x, w) r = Relu (h) y = Gemm <alpha = 2.0> (r, w)",
}


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_initializer_is_one_parameter_in_all_its_uses(name: str) -> None:
    text = f"g (float[N, 4] x) => (float[N, 4] y) {{ {SHARED[name]} }}"
    model, x = parse(text, w=0.5 * normal(0, 4, 4)), normal(1, 6, 4)
    before = run(model, x)
    imported = import_model(model)
    assert [id(p) for p in imported.module.parameters()] == [id(imported.tensor("w"))]
    expected = train(imported, x)
    imported.write_back(model)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - before).max() > 1e-4


@pytest.mark.parametrize("name", SHARED_IN_DIFFERENT_WAYS)
def test_an_initializer_shared_in_different_ways_is_refused(name: str) -> None:
    text = f"g (float[N, 4] x) => (float[N, 4] y) {{ {SHARED_IN_DIFFERENT_WAYS[name]} }}"
    message = (
        "^initializer 'w' cannot be trained: one operator reads it as it is, another transposed or "
        "scaled; run with --epochs 0 and without --data, or give each an initializer of its own$"
    )
    with pytest.raises(ModelError, match=message):
        import_model(parse(text, w=normal(0, 4, 4)))


def test_a_shared_bias_is_one_parameter() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) {
        h = Gemm (x, w, b)
        r = Relu (h)
        y = Add (r, b)
    }"""
    model, x = parse(text, w=normal(0, 4, 4), b=normal(1, 4)), normal(2, 6, 4)
    imported = import_model(model)
    assert len(list(imported.module.parameters())) == 2
    expected = train(imported, x)
    imported.write_back(model)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)


def test_an_operator_without_counterpart_is_named() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { [odd] h = Hardmax (x) y = MatMul (h, w) }"
    message = (
        r"^node 'odd' \(Hardmax, opset 18\) cannot be trained: it has no PyTorch counterpart; run "
        r"with --epochs 0 and without --data, or export without it$"
    )
    with pytest.raises(ModelError, match=message):
        import_model(parse(text, opset=18, w=normal(0, 4, 4)))


@pytest.mark.parametrize("opset", [13, 18, 19, 20, 21, 22, 23])
def test_layers_of_every_opset_import(opset: int) -> None:
    """Newer opsets gave most operators a new version that computes the same."""
    text = """g (float[N, 1, 4, 4] x) => (float[N, 3] y) {
        c = Conv (x, w1, b1)
        r = Relu (c)
        p = MaxPool <kernel_shape = [2, 2]> (r)
        q = AveragePool <kernel_shape = [1, 1]> (p)
        t = Transpose <perm = [0, 2, 3, 1]> (q)
        s = Reshape (t, shape)
        g = GlobalAveragePool (q)
        f = Flatten (g)
        a = MatMul (s, w2)
        b = Gemm (f, w3)
        i = Identity (b)
        y = Add (a, i)
    }"""
    model = parse(
        text, opset, w1=normal(0, 2, 1, 3, 3), b1=normal(1, 2), shape=np.array([-1, 2]),
        w2=normal(2, 2, 3), w3=normal(3, 2, 3),
    )  # fmt: skip
    x = normal(4, 5, 1, 4, 4)
    imported = import_model(model)
    expected = train(imported, x)
    imported.write_back(model)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 18, 23])
def test_pad_and_split_of_every_opset(opset: int) -> None:
    text = """g (float[N, 4] x) => (float[N, 5] y) {
        h = MatMul (x, w)
        a, b = Split <axis = 1> (h, sizes)
        p = Pad (a, pads)
        y = Concat <axis = 1> (p, b)
    }"""
    arrays = {"w": normal(0, 4, 4), "sizes": np.array([1, 3]), "pads": np.array([0, 0, 0, 1])}
    model, x = parse(text, opset, **arrays), normal(1, 5, 4)
    imported = import_model(model)
    expected = train(imported, x)
    imported.write_back(model)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-5)
