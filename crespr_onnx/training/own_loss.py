"""A loss of the user's own, named module:function, in place of the built-in one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from crespr_onnx.errors import UsageError
from crespr_onnx.named_function import (
    current_folder_first,
    failed,
    import_function,
    is_function_spec,
)
from crespr_onnx.training.objective import Batch, Objective

Loss = Callable[[Any, Batch], torch.Tensor]
"""From the model's outputs (a tensor, or a tuple of them) and the batch to a scalar."""


@dataclass(frozen=True)
class OwnObjective(Objective):
    """An objective whose loss is a function of the user's.

    Attributes:
        name: module:function, for messages.
        function: the loss.
    """

    name: str = ""
    function: Loss | None = None

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:  # noqa: ANN401
        """What the function returns for a batch.

        Raises:
            UsageError: if it raises, or returns anything but a scalar tensor.
        """
        assert self.function is not None
        given = tuple(outputs) if isinstance(outputs, list) else outputs
        try:
            loss = self.function(given, batch)
        # Whatever a user's function raises is a fault of that function, told in one line.
        except Exception as error:
            raise failed(f"--loss {self.name}", "calling it", error, UsageError) from error
        if not isinstance(loss, torch.Tensor):
            raise UsageError(
                f"--loss {self.name}: returned {type(loss).__name__}; return a scalar tensor, such "
                "as the mean over the batch"
            )
        if loss.numel() != 1 or not loss.is_floating_point():
            raise UsageError(
                f"--loss {self.name}: returned a tensor of shape {list(loss.shape)} and type "
                f"{loss.dtype}; return one floating-point number, such as the mean over the batch"
            )
        return loss.reshape(())


def own_objective(spec: str, kind: Objective) -> OwnObjective:
    """The objective of a loss named module:function.

    Args:
        spec: the name; modules of the current folder can be imported.
        kind: the built-in objective for the model, which says what its outputs are.

    Raises:
        UsageError: if there is no such function.
    """
    if not is_function_spec(spec):
        raise UsageError(f"--loss is {spec}; give module:function")
    function = import_function(spec, UsageError)
    return OwnObjective(kind.classifier, kind.probabilities, name=spec, function=function)


def check_loss(objective: OwnObjective, module: torch.nn.Module, batch: Batch) -> None:
    """Tries a loss on one batch, before hours of work rather than after.

    Args:
        objective: the objective.
        module: the dense model.
        batch: a batch of full size.

    Raises:
        UsageError: if the loss fails, is no finite scalar, or has no gradient.
    """
    module.eval()
    with current_folder_first():
        loss = objective.loss(module(*batch.inputs), batch)
    name = f"--loss {objective.name}"
    if not torch.isfinite(loss):
        raise UsageError(
            f"{name}: is {float(loss.detach())} for the dense model; it must be finite"
        )
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = (
        torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else ()
    )
    if all(gradient is None for gradient in gradients):
        raise UsageError(
            f"{name}: has no gradient; compute it from the outputs with torch, without detach, "
            "argmax or no_grad"
        )
    if not all(g is None or bool(torch.isfinite(g).all()) for g in gradients):
        raise UsageError(f"{name}: its gradient is not finite for the dense model")
