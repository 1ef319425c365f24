"""What an interrupted run leaves behind to go on from, and when it may be used."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from crespr_onnx import processes
from crespr_onnx.data import Samples
from crespr_onnx.errors import UsageError
from crespr_onnx.files import TEMPORARY_PREFIX, write_atomic
from crespr_onnx.graph.load import LoadedModel
from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.layout_json import layout_from_json, layout_to_json, selections_to_json
from crespr_onnx.settings import CompressSettings
from crespr_onnx.training.together import on_main

FOLDER = "checkpoints"
_RUN = "run.json"
_RESTRICTED = "restricted.onnx"
_LAYOUT = "crespr.layout"
_SELECTIONS = "crespr.selections"
PHASES = ("restrict", "tune")
# They decide nothing about the outcome of training; data and model are told by their content.
_FREE = (
    "output",
    "resume",
    "force",
    "max_drop",
    "tune",
    "tuning_records",
    "min_speedup",
    "eval_data",
    "target",
    "rpc",
    "number_format",
    "form",
)


@dataclass(frozen=True)
class Workbench:
    """The folder of checkpoints of one run.

    Attributes:
        path: below the output folder; gone once a run is complete.
    """

    path: Path

    @classmethod
    def open(
        cls, output: Path, settings: CompressSettings, loaded: LoadedModel, train: Samples | None
    ) -> "Workbench":
        """Makes the folder, or takes that of an interrupted run of the same settings.

        Raises:
            UsageError: if --resume finds checkpoints of another model, data or settings.
        """
        bench = cls(output / FOLDER)
        decisive = _decisive(settings, loaded, train)
        record = bench.path / _RUN
        if settings.resume and record.is_file():
            _require_same(record, decisive)
            return bench
        bench.clear()
        bench.path.mkdir(exist_ok=True)
        write_atomic(record, json.dumps(decisive, indent=1))
        return bench

    def load_restricted(self, graph: ChannelGraph) -> tuple[ir.Model, Layout] | None:
        """The restricted model and its layout, if the interrupted run had come that far."""
        path = self.path / _RESTRICTED
        data = on_main(lambda: path.read_bytes() if path.is_file() else None)
        if data is None:
            return None
        try:
            model = ir.from_proto(onnx.load_model_from_string(data))
            marks = (model.metadata_props.pop(name) for name in (_LAYOUT, _SELECTIONS))
            return model, layout_from_json(graph, *marks)
        # Protobuf has exceptions of its own, and a file can be valid and yet not this one.
        except Exception as error:
            raise UsageError(f"{path}: is damaged; start over with --force") from error

    def keep_restricted(self, model: ir.Model, layout: Layout, graph: ChannelGraph) -> None:
        """Keeps the restricted model with its layout for a later resume."""
        marked = model.clone(deep_copy=True)
        marked.metadata_props[_LAYOUT] = layout_to_json(graph, layout)
        marked.metadata_props[_SELECTIONS] = selections_to_json(layout)
        write_atomic(self.path / _RESTRICTED, ir.to_proto(marked).SerializeToString())

    def training(self, name: str) -> Path:
        """Checkpoint file of a training phase."""
        return self.path / f"{name}.safetensors"

    def clear(self) -> None:
        """Removes all checkpoints: the run is complete, or starts over."""
        # Only what a run writes: a folder of this name may hold the user's own files.
        for leftover in (_RUN, _RESTRICTED, *(f"{phase}.safetensors" for phase in PHASES)):
            (self.path / leftover).unlink(missing_ok=True)
        for temporary in self.path.glob(f"{TEMPORARY_PREFIX}*"):
            temporary.unlink()
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


def _require_same(record: Path, decisive: Mapping[str, str]) -> None:
    try:
        before = json.loads(record.read_text("utf-8"))
        changed = [key for key in decisive if before.get(key) != decisive[key]]
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{record}: is damaged; start over with --force") from error
    if changed:
        raise UsageError(
            f"{record.parent} is of a run that differs in {', '.join(changed)}; go on with what it "
            "had, or start over with --force"
        )


def _decisive(
    settings: CompressSettings, loaded: LoadedModel, train: Samples | None
) -> dict[str, str]:
    """All that decides the outcome of training, to the last bit of the weights."""
    decisive = {k: str(v) for k, v in asdict(settings).items() if k not in _FREE}
    return decisive | {
        "model": loaded.sha256,
        "data": "none" if train is None else _digest(train),
        # Sums are added up in another order by another number of threads.
        "threads": str(settings.threads or os.cpu_count() or 1),
        "processes": str(processes.count()),
        "version": ", ".join(
            f"{p} {version(p)}" for p in ("crespr-onnx", "torch", "accelerate", "onnxruntime")
        ),
    }


def _digest(samples: Samples) -> str:
    digest = hashlib.sha256()
    arrays = dict(samples.inputs) | ({} if samples.labels is None else {"": samples.labels})
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
