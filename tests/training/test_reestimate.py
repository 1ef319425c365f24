"""BatchNorm statistics from calibration batches."""

import numpy as np
import pytest
import torch
from torch import nn
from training_models import cnn, normal

from crespr_onnx.training.importer import import_model
from crespr_onnx.training.objective import Batch
from crespr_onnx.training.reestimate import reestimate_batch_norm

torch.set_num_threads(1)


def batches(x: np.ndarray, *sizes: int) -> list[Batch]:
    parts = torch.from_numpy(x).split(sizes)
    return [Batch((part,), (None,), None) for part in parts]


def layer(module: nn.Module) -> nn.BatchNorm2d:
    (found,) = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    return found


def test_statistics_become_the_averages_over_batches() -> None:
    imported = import_model(cnn())
    norm, x = layer(imported.module), normal(1, 8, 1, 6, 6)
    read = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].double().numpy()))
    assert reestimate_batch_norm(imported.module, batches(x, 4, 4)) == 1
    hook.remove()
    mean = np.mean([r.mean(axis=(0, 2, 3)) for r in read], axis=0)
    var = np.mean([r.var(axis=(0, 2, 3), ddof=1) for r in read], axis=0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.running_var.numpy(), var, rtol=1e-4)


def test_nothing_else_changes() -> None:
    imported = import_model(cnn())
    module = imported.module.train()
    norm = layer(module)
    norm.eval()  # a layer with a mode of its own
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    momentum = norm.momentum
    reestimate_batch_norm(module, batches(normal(1, 8, 1, 6, 6), 4, 4))
    assert (module.training, norm.training, norm.momentum) == (True, False, momentum)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_second_time_gives_the_same() -> None:
    imported = import_model(cnn())
    data = batches(normal(1, 9, 1, 6, 6), 4, 3, 2)
    found = []
    for _ in range(2):
        reestimate_batch_norm(imported.module, data)
        found.append({n: b.clone() for n, b in imported.module.named_buffers()})
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name])


@pytest.mark.parametrize("sizes", [(1, 1), ()])
def test_without_a_batch_of_several_samples_statistics_stay(sizes: tuple[int, ...]) -> None:
    imported = import_model(cnn())
    before = layer(imported.module).running_mean
    assert before is not None
    kept = before.clone()
    data = batches(normal(1, sum(sizes), 1, 6, 6), *sizes) if sizes else []
    assert reestimate_batch_norm(imported.module, data) == 0
    assert torch.equal(layer(imported.module).running_mean, kept)  # type: ignore[arg-type]


def test_single_samples_are_left_out() -> None:
    data = normal(1, 5, 1, 6, 6)
    both, one = import_model(cnn()), import_model(cnn())
    reestimate_batch_norm(both.module, batches(data, 4, 1))
    reestimate_batch_norm(one.module, batches(data[:4], 4))
    assert torch.equal(layer(both.module).running_var, layer(one.module).running_var)  # type: ignore[arg-type]


def test_a_model_without_batchnorm_is_left_alone() -> None:
    linear = nn.Linear(2, 2)
    assert reestimate_batch_norm(linear, batches(normal(1, 4, 2), 2, 2)) == 0


def test_statistics_are_restored_in_mode_when_the_model_fails() -> None:
    module = import_model(cnn()).module
    with pytest.raises(RuntimeError):
        reestimate_batch_norm(module, batches(normal(1, 4, 1, 9, 9), 4))
    assert layer(module).momentum is not None
