"""Where a training phase can be taken up again: after each epoch, as safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from crespr_onnx.errors import UsageError
from crespr_onnx.files import write_atomic
from crespr_onnx.training.together import on_main

_EPOCHS = "epochs_done"


class Extra(Protocol):
    """State besides weights and optimiser that a phase must not lose."""

    def state(self) -> Mapping[str, torch.Tensor]:
        """The state as tensors by name."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up a state that `state` gave."""


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint file of one training phase.

    Attributes:
        path: the file.
        extra: further state of the phase, or None.
    """

    path: Path
    extra: Extra | None = None

    def save(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        epochs_done: int,
        watch: Extra | None = None,
    ) -> None:
        """Writes the state after an epoch, whole or not at all."""
        tensors = {f"module.{name}": t for name, t in module.state_dict().items()}
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(t) for name, t in state.items()}
        for prefix, extra in self._extras(watch):
            tensors |= {f"{prefix}{name}": t for name, t in extra.state().items()}
        tensors[_EPOCHS] = torch.tensor(epochs_done)
        # A copy each, since safetensors refuses tied weights.
        write_atomic(
            self.path, save({n: t.detach().contiguous().clone() for n, t in tensors.items()})
        )

    def load(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, watch: Extra | None = None
    ) -> int:
        """Restores the state, if there is one; returns how many epochs it has behind it.

        With several processes all get what the main one reads.

        Raises:
            UsageError: if the file is damaged, or of another model.
        """
        try:
            data = on_main(lambda: self.path.read_bytes() if self.path.is_file() else None)
            return 0 if data is None else self._restore(load(data), module, optimizer, watch)
        # Damage shows in safetensors; a state that does not fit, in whoever takes it up.
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"{self.path}: is damaged or of another run ({reason}); start over with --force"
            ) from error

    def _restore(
        self,
        tensors: Mapping[str, torch.Tensor],
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        watch: Extra | None,
    ) -> int:
        module.load_state_dict(_part(tensors, "module."))
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
        for prefix, extra in self._extras(watch):
            extra.load_state(_part(tensors, prefix))
        return int(tensors[_EPOCHS])

    def _extras(self, watch: Extra | None) -> list[tuple[str, Extra]]:
        extras = (("extra.", self.extra), ("watch.", watch))
        return [(prefix, extra) for prefix, extra in extras if extra is not None]


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
