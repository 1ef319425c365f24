"""Relevance through whole models: conservation, BatchNorm, and what the model is afterwards."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from relevance_models import lenet, resnet
from training_models import array, channels, lesson_for, mlp, normal, parse, run

from crespr_onnx.graph.channels import find_channels
from crespr_onnx.passes.fold_batchnorm import FoldBatchNorm
from crespr_onnx.training.importer import import_model
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.relevance.score import relevance_flows, unit_relevance
from crespr_onnx.training.relevance.variant import Variant

torch.set_num_threads(1)


def samples(model: ir.Model, count: int = 6) -> list[Batch]:
    shape = [d if isinstance(d, int) else count for d in model.graph.inputs[0].shape or ()]
    lesson = lesson_for(model, normal(9, *shape), np.arange(count) % 3)
    return [lesson.batch(np.arange(count))]


def test_a_net_without_residuals_conserves_relevance() -> None:
    model = lenet()
    graph, _ = find_channels(model)
    scores = unit_relevance(import_model(model), graph, samples(model))
    # Six samples start with one each. Every unit here has a positive term, so none is lost.
    for edge in graph.edges:
        for channels_of in (edge.in_channels, edge.out_channels):
            assert scores[np.unique(channels_of)].sum() == pytest.approx(6.0, rel=1e-4)
    assert (scores >= 0).all()


def test_a_residual_net_without_bias_conserves_the_signed_sum() -> None:
    model = resnet(shift=0.0)
    flows = list(relevance_flows(import_model(model), samples(model)))
    sums = {path: float(flow.output.sum()) for path, flow in flows[0].items()}
    back = float(flows[0]["conv_0"].weights.sum())
    assert sums["gemm_9"] == pytest.approx(6.0, rel=1e-5)
    # The skip carries a part around the second convolution; before it both come together.
    assert sums["conv_0"] == pytest.approx(6.0, rel=1e-3)
    assert abs(sums["conv_3"] - 6.0) > 0.1
    assert back == pytest.approx(6.0, rel=1e-3)


def test_a_bias_keeps_its_share_under_the_epsilon_rule() -> None:
    text = """net (float[N, 2] x) => (float[N, 1] y) {
        h = Gemm <transB = 1> (x, w1, b1)
        s = Add (h, x)
        y = Gemm <transB = 1> (s, w2)
    }"""
    model = parse(
        text, w1=np.eye(2, dtype=np.float32), b1=np.float32([2, 0]), w2=np.float32([[1, 1]])
    )
    batch = Batch((torch.tensor([[1.0, 3.0]]),), (None,), torch.tensor([0]))
    (flows,) = relevance_flows(import_model(model), [batch])
    # y = (1 + 2 + 1) + (3 + 3): of the first layer's 6 tenths the bias keeps 2.
    np.testing.assert_allclose(flows["gemm_0"].output.numpy(), [[0.3, 0.3]], rtol=1e-5)
    np.testing.assert_allclose(flows["gemm_0"].weights.numpy(), [[0.1, 0], [0, 0.3]], rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_batch_norm_counts_as_folded(shift: float) -> None:
    model, folded = resnet(shift=shift), resnet(shift=shift)
    folded = FoldBatchNorm()(folded).model
    batches = samples(model)
    assert sum(node.op_type == "BatchNormalization" for node in folded.graph) == 0
    (one,) = relevance_flows(import_model(model), batches)
    (two,) = relevance_flows(import_model(folded), batches)
    assert set(one) == set(two) == {"conv_0", "conv_3", "gemm_9"}
    for path, flow in one.items():
        scale = float(flow.output.abs().max())
        np.testing.assert_allclose(
            flow.output.numpy(), two[path].output.numpy(), rtol=1e-3, atol=1e-4 * scale
        )
        np.testing.assert_allclose(
            flow.weights.numpy(), two[path].weights.numpy(), rtol=1e-3, atol=1e-4 * scale
        )


def test_a_constant_added_to_a_product_is_a_bias() -> None:
    model = mlp()
    text = """mlp (float[N, 6] x) => (float[N, 3] y) {
        h1 = Gemm <transB = 1> (x, w1, b1)
        a1 = Relu (h1)
        h2 = Gemm (a1, w2, b2)
        a2 = Relu (h2)
        y = Gemm (a2, w3, b3)
    }"""
    names = ("w1", "b1", "w2", "b2", "w3", "b3")
    other = parse(text, **{n: array(model, n) for n in names})
    batches = samples(model)
    (one,) = relevance_flows(import_model(model), batches)
    (two,) = relevance_flows(import_model(other), batches)
    np.testing.assert_allclose(
        one["matmul_2"].output.numpy(), two["gemm_2"].output.numpy(), rtol=1e-5
    )
    np.testing.assert_allclose(
        one["matmul_2"].weights.numpy(), two["gemm_2"].weights.T.numpy(), rtol=1e-5
    )


def test_a_useless_unit_has_no_relevance() -> None:
    model = mlp()
    dead = array(model, "w2")
    dead[3] = 0.0  # nothing reads unit 3 of the first hidden layer
    model.graph.initializers["w2"].const_value = ir.tensor(dead, name="w2")
    graph = channels(model)
    scores = unit_relevance(import_model(model), graph, samples(model))
    (hidden,) = [g.channels for g in graph.groups if g.name == "h1"]
    assert scores[hidden[3]] == 0.0
    assert (np.delete(scores[hidden], 3) > 0).sum() >= 5


def test_residual_models_add_up_sizes_not_signs() -> None:
    model = resnet()
    imported, graph, batches = import_model(model), channels(model), samples(model)
    (flows,) = relevance_flows(imported, batches)
    scores = unit_relevance(imported, graph, batches)
    (stream,) = [g for g in graph.groups if g.name == "c1"]
    convolutions = [imported.modules[e.name] for e in graph.edges if e.op == "Conv"]
    expected = sum(flows[path].output.abs().sum(dim=(0, 2, 3)).numpy() for path in convolutions)
    np.testing.assert_allclose(scores[stream.channels], expected, rtol=1e-5)


def test_attention_conserves_what_its_factors_share() -> None:
    text = """attention (float[N, 4, 6] x) => (float[N, 4, 6] y) {
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        kt = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, kt)
        y = MatMul (s, q)
    }"""
    model = parse(text, wq=np.abs(normal(1, 6, 6)), wk=np.abs(normal(2, 6, 6)))
    x = np.abs(normal(3, 2, 4, 6))
    batch = Batch((torch.from_numpy(x),), (torch.from_numpy(run(model, x)),), None)
    (flows,) = relevance_flows(import_model(model), [batch], Variant(classifier=False))
    total = float(batch.targets[0].sum())
    assert float(flows["matmul_0"].output.sum()) == pytest.approx(0.75 * total, rel=1e-4)
    assert float(flows["matmul_1"].output.sum()) == pytest.approx(0.25 * total, rel=1e-4)


def test_a_quotient_gives_all_to_its_numerator_and_a_split_puts_parts_together() -> None:
    text = """gate (float[N, 4] x) => (float[N, 2] y) {
        h = MatMul (x, w)
        a, b = Split <axis = 1> (h)
        c = Exp (b)
        y = Div (a, c)
    }"""
    model = parse(text, w=np.abs(normal(1, 4, 4)))
    batch = Batch((torch.ones(1, 4),), (None,), torch.tensor([1]))
    (flows,) = relevance_flows(import_model(model), [batch])
    np.testing.assert_allclose(flows["matmul_0"].output.numpy(), [[0, 1, 0, 0]], rtol=1e-4)


def test_relevance_may_start_from_the_score() -> None:
    model = mlp()
    batches = samples(model)
    imported = import_model(model)
    (flows,) = relevance_flows(imported, batches, Variant(by_score=True))
    x, labels = batches[0].inputs[0].numpy(), batches[0].labels
    assert labels is not None
    scores = run(model, x)[np.arange(6), labels.numpy()]
    found = flows["gemm_5"].output.numpy()[np.arange(6), labels.numpy()]
    np.testing.assert_allclose(found, scores, rtol=1e-5)


def test_the_model_stays_as_it_is_and_the_result_the_same() -> None:
    model = resnet()
    imported, graph, batches = import_model(model), channels(model), samples(model)
    imported.module.train()
    imported.module.get_submodule("conv_0").eval()
    before = {n: t.clone() for n, t in imported.module.state_dict().items()}
    modes = [m.training for m in imported.module.modules()]
    first = unit_relevance(imported, graph, batches)
    np.testing.assert_array_equal(unit_relevance(imported, graph, batches), first)
    assert [m.training for m in imported.module.modules()] == modes
    assert all(p.grad is None for p in imported.module.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in imported.module.modules())
    after = imported.module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[n], t) for n, t in before.items())
