"""What an interrupted run leaves behind to go on from, and when it may be used."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from crespr_onnx.errors import UsageError
from crespr_onnx.files import write_atomic
from crespr_onnx.graph.load import LoadedModel
from crespr_onnx.layout import ChannelGraph, Layout, layout_from_json
from crespr_onnx.settings import CompressSettings

FOLDER = "checkpoints"
_RUN = "run.json"
_RESTRICTED = "restricted.onnx"
_LAYOUT = "crespr.layout"
# They decide nothing about the outcome of training.
_FREE = ("output", "resume", "force", "max_drop", "min_speedup", "eval_data", "target", "threads")


@dataclass(frozen=True)
class Workbench:
    """The folder of checkpoints of one run.

    Attributes:
        path: below the output folder; gone once a run is complete.
    """

    path: Path

    @classmethod
    def open(cls, output: Path, settings: CompressSettings, loaded: LoadedModel) -> "Workbench":
        """Makes the folder, or takes that of an interrupted run of the same settings.

        Raises:
            UsageError: if --resume finds checkpoints of another model or other settings.
        """
        path = output / FOLDER
        wanted = _fingerprint(settings, loaded)
        if settings.resume and (path / _RUN).is_file():
            if json.loads((path / _RUN).read_text())["fingerprint"] != wanted:
                raise UsageError(
                    f"{path} is of another model, other data or other settings; run with those, "
                    "or start over with --force"
                )
            return cls(path)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        write_atomic(path / _RUN, json.dumps({"fingerprint": wanted}))
        return cls(path)

    def load_restricted(self, graph: ChannelGraph) -> tuple[ir.Model, Layout] | None:
        """The restricted model and its layout, if the interrupted run had come that far."""
        path = self.path / _RESTRICTED
        if not path.is_file():
            return None
        model = ir.load(path)
        return model, layout_from_json(model.metadata_props.pop(_LAYOUT), graph)

    def keep_restricted(self, model: ir.Model, layout: Layout, graph: ChannelGraph) -> None:
        """Keeps the restricted model with its layout for a later resume."""
        marked = model.clone(deep_copy=True)
        marked.metadata_props[_LAYOUT] = layout.to_json(graph)
        write_atomic(self.path / _RESTRICTED, ir.to_proto(marked).SerializeToString())

    def training(self, name: str) -> Path:
        """Checkpoint file of a training phase."""
        return self.path / f"{name}.safetensors"

    def clear(self) -> None:
        """Removes everything: the run is complete."""
        shutil.rmtree(self.path, ignore_errors=True)


def _fingerprint(settings: CompressSettings, loaded: LoadedModel) -> str:
    decisive = {k: str(v) for k, v in asdict(settings).items() if k not in _FREE}
    decisive["model"] = loaded.sha256
    # Without data of its own the metric takes part of the training data.
    decisive["held_out"] = str(settings.eval_data is None)
    if settings.data is not None and Path(settings.data).is_file():
        decisive["data_bytes"] = str(Path(settings.data).stat().st_size)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
