"""A walk sees every layer as the ones before it are by now, whether it holds values or not."""

from collections import Counter

import pytest
import torch
from training_models import channels, cnn, mlp, normal

from crespr_onnx.training.importer import ImportedModel, import_model
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.walk import execution_order, walk

torch.set_num_threads(1)

MODELS = {"mlp": (mlp, (6,)), "cnn": (cnn, (1, 6, 6))}


def batches(shape: tuple[int, ...], count: int = 3) -> list[Batch]:
    inputs = (torch.from_numpy(normal(i, 4, *shape)) for i in range(count))
    return [Batch((x,), (None,), None) for x in inputs]


def calls(imported: ImportedModel) -> Counter[str]:
    """Counts how often each module is computed from now on."""
    counts: Counter[str] = Counter()
    for name, module in imported.module.named_children():
        module.register_forward_hook(lambda *_, name=name: counts.update([name]))
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_layers_change_behind_a_walk(name: str) -> None:
    make, shape = MODELS[name]
    graph, data = channels(make()), batches(shape)
    seen = []
    for held in (0, 2**28):
        imported = import_model(make())
        path = walk(imported, data, held)
        values = []
        for edge in execution_order(imported, graph.edges):
            values += [*path.reads(edge)]
            with torch.no_grad():
                imported.tensor(edge.weight).mul_(1.5)
            values += [*path.answers(edge)]
        seen.append(values)
    starting, holding = seen
    assert len(starting) == len(holding) == 2 * len(graph.edges) * len(data)
    for a, b in zip(starting, holding, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_nothing_is_computed_twice_while_it_can_be_held() -> None:
    graph, data = channels(mlp()), batches((6,))
    imported = import_model(mlp())
    first, _, third = execution_order(imported, graph.edges)
    path = walk(imported, data)
    counts = calls(imported)
    for edge in (first, third):
        assert len([*path.reads(edge)]) == len([*path.answers(edge)]) == len(data)
    assert {*counts.values()} == {len(data)}


def test_values_are_dropped_when_nothing_needs_them() -> None:
    graph, data = channels(mlp((8, 200))), batches((6,))
    # The widest layer reads and answers the most, which is far less than all layers together.
    widest = 4 * (200 + 200) * data[0].inputs[0].shape[0] * len(data)
    for held, times in ((widest, 1), (widest // 4, 2)):
        imported = import_model(mlp((8, 200)))
        path = walk(imported, data, held)
        counts = calls(imported)
        first, *_, last = execution_order(imported, graph.edges)
        assert len([*path.answers(first)]) == len([*path.answers(last)]) == len(data)
        assert counts[imported.modules[first.name]] == times * len(data)
