"""What `import_survey.py` does with one model, stage by stage."""

import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from crespr_onnx.errors import CresprError
from crespr_onnx.graph.interface import check_same_interface
from crespr_onnx.graph.random_inputs import random_inputs
from crespr_onnx.graph.session import make_session, run
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.inspection import inspect_model
from crespr_onnx.pipeline import compress
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.prepare import Prepared, analyse_model
from crespr_onnx.training.importer import ImportedModel, import_model

STAGES = ("inspect", "import", "parity", "write_back", "compress", "branches")
BATCHES = (1, 2, 5)
CASES = 3
TOLERANCE = 1e-4
SMALL = 1e-2
"""Outputs below this are compared absolutely, within 1e-6: ONNX Runtime's Sigmoid is off by 1e-7
where a detector finds nothing in random inputs and all its scores are near zero."""
RATIO = 0.5
Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, np.ndarray]


class Mismatch(Exception):  # noqa: N818 - a finding, not an error
    """Something that must be equal is not."""


def survey(path: Path, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Yields the record of a model after each stage; a stage after a failed one is left out."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    record: dict[str, Any] = {"model": path.stem, "opset": _opset(path)}
    found: dict[str, Any] = {}

    def do_import() -> dict[str, Any]:
        prepared = analyse_model(path)
        imported = import_model(prepared.model)
        found.update(prepared=prepared, imported=imported)
        count = sum(p.numel() for p in imported.module.parameters())
        return {"parameters": count}

    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "inspect": lambda: _inspect(path),
        "import": do_import,
        "parity": lambda: _parity(path, found["imported"], shapes),
        "write_back": lambda: _write_back(path, found["prepared"], found["imported"], shapes),
        "compress": lambda: _compress(path, shapes),
        "branches": lambda: _branches(path, shapes, record["inspect"]["max_clusters"]),
    }
    needs = {
        "parity": "import",
        "write_back": "import",
        "compress": "inspect",
        "branches": "inspect",
    }
    for stage, action in stages.items():
        if stage in needs and record.get(needs[stage], {}).get("status") != "ok":
            record[stage] = {"status": "skipped"}
        else:
            record[stage] = _timed(action)
        yield record
    record["done"] = True
    yield record


def _timed(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        result = {"status": "ok", **action()}
    except CresprError as error:
        status = "refused" if error.exit_code in (2, 3) else "failed"
        result = {"status": status, "error": f"{type(error).__name__}: {error}"}
    except Exception as error:  # whatever it is, it is the finding
        text = " ".join(str(error).split())[:400]
        text = f"{type(error).__name__}: {text} [{_place(error)}]"
        result = {"status": "failed", "error": text}
    return {**result, "seconds": round(time.perf_counter() - start, 2)}


def _place(error: Exception) -> str:
    """The innermost line of this project that an exception passed through."""
    place, frame = "", error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if "site-packages" not in name:
            place = f"{Path(name).name}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


def _opset(path: Path) -> int | None:
    versions = (i.version for i in onnx.load(path).opset_import if i.domain in ("", "ai.onnx"))
    return next(versions, None)


def _inspect(path: Path) -> dict[str, Any]:
    found = inspect_model(path)
    weights = dict.fromkeys(("split", "shrink", "dense"), 0)
    for layer in found.layers:
        weights[layer.verdict] += layer.weights
    total = max(found.weights, 1)
    return {
        "nodes": sum(found.operators.values()),
        "groups": len(found.groups),
        "free_groups": sum(group.verdict != "keep" for group in found.groups),
        "layers": len(found.layers),
        "weights": found.weights,
        "clusterable_share": round(weights["split"] / total, 4),
        "shrinkable_share": round(weights["shrink"] / total, 4),
        "max_ratio": round(found.max_ratio, 4),
        "max_clusters": found.max_clusters,
        "obstacles": sorted({f"{o.op}: {o.reason}" for o in found.obstacles})[:8],
    }


def _cases(path: Path, prepared: ir.Model, shapes: Shapes) -> Iterator[tuple[int, Arrays, Arrays]]:
    """Random inputs at several batch sizes, with the outputs of the file in ONNX Runtime."""
    signature = signature_of(prepared)
    session = make_session(path)
    dynamic = any(spec.dynamic_batch for spec in signature.inputs)
    rng = np.random.default_rng(0)
    for batch in BATCHES if dynamic else (1,):
        for _ in range(CASES):
            inputs = random_inputs(signature, rng, batch, shapes or None)
            try:
                yield batch, inputs, run(session, inputs)
            except CresprError:
                if batch == 1:
                    raise
                break  # the exporter froze the batch: ONNX Runtime cannot run this size either


def _forward(imported: ImportedModel, inputs: Arrays) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = imported.module(*(torch.from_numpy(array) for array in inputs.values()))
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [output.numpy() for output in outputs]


def _apart(expected: Arrays, actual: list[np.ndarray]) -> float:
    """Largest difference of any output, relative to the largest value in it or SMALL."""
    if len(expected) != len(actual):
        raise Mismatch(f"{len(actual)} outputs instead of {len(expected)}")
    worst = 0.0
    for (name, reference), other in zip(expected.items(), actual, strict=True):
        if reference.shape != other.shape:
            raise Mismatch(f"output '{name}' is {other.shape} instead of {reference.shape}")
        if reference.size == 0:
            continue
        difference = np.abs(reference.astype(np.float64) - other.astype(np.float64)).max()
        scale = max(float(np.abs(reference).max()), SMALL)
        worst = max(worst, float(difference) / scale if math.isfinite(difference) else math.inf)
    return worst


def _parity(path: Path, imported: ImportedModel, shapes: Shapes) -> dict[str, Any]:
    imported.module.eval()
    worst, batches = 0.0, set()
    for batch, inputs, expected in _cases(path, analyse_model(path).loaded.model, shapes):
        try:
            worst = max(worst, _apart(expected, _forward(imported, inputs)))
        except Mismatch:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise Mismatch(f"batch {batch} fails: {type(error).__name__}: {text}") from error
        batches.add(batch)
    if worst > TOLERANCE:
        raise Mismatch(f"torch is {worst:.3g} away from ONNX Runtime")
    return {"worst": worst, "batches": sorted(batches)}


def _write_back(
    path: Path, prepared: Prepared, imported: ImportedModel, shapes: Shapes
) -> dict[str, Any]:
    cases = list(_cases(path, prepared.loaded.model, shapes))
    _train(imported, cases[min(CASES, len(cases) - 1)][1])
    model = prepared.model.clone(deep_copy=True)
    imported.write_back(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    worst = 0.0
    session = make_session(model)
    moved = 0.0
    for _, inputs, before in cases:
        after = run(session, inputs)
        worst = max(worst, _apart(after, _forward(imported, inputs)))
        moved = max(moved, _apart(before, list(after.values())))
    if worst > TOLERANCE:
        raise Mismatch(f"ONNX Runtime is {worst:.3g} away from torch after two steps")
    return {"worst": worst, "moved": moved, **_interface(path, proto)}


def _train(imported: ImportedModel, inputs: Arrays) -> None:
    """Two steps of SGD on the squared outputs, small enough to stay finite."""
    module = imported.module.eval()
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise Mismatch("no parameter can be trained")
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        outputs = module(*(torch.from_numpy(array) for array in inputs.values()))
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        floats = [o for o in outputs if o.is_floating_point() and o.requires_grad]
        sum(o.square().mean() for o in floats).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def _interface(path: Path, proto: onnx.ModelProto) -> dict[str, Any]:
    """Holds a model to the interface of the file: names, types, every dimension and its symbol."""
    original = onnx.load(path)
    check_same_interface(ir.from_proto(original), ir.from_proto(proto))
    stored = {tensor.name for tensor in original.graph.initializer}
    for role in ("input", "output"):
        ours = [v for v in getattr(original.graph, role) if v.name not in stored or role != "input"]
        for before, after in zip(ours, getattr(proto.graph, role), strict=True):
            if _dims(before) != _dims(after):
                raise Mismatch(f"{role} {before.name}: {_dims(before)} became {_dims(after)}")
    return {}


def _dims(value: onnx.ValueInfoProto) -> list[str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or str(dim.dim_value) for dim in dims]


def _branches(path: Path, shapes: Shapes, room: int) -> dict[str, Any]:
    """Compresses into two clusters as separate operators, joined to branches, if there is room."""
    return _compress(path, shapes, clusters=2, form="separate") if room > 1 else {"split": 0}


def _compress(path: Path, shapes: Shapes, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    with tempfile.TemporaryDirectory() as folder:
        settings = CompressSettings(
            model=path, ratio=RATIO, target="onnx", epochs=0, output=Path(folder),
            input_shapes=shapes, min_speedup=0.0, threads=1, force=True, **options,
        )  # fmt: skip
        try:
            report = compress(settings)
        except CresprError as error:
            reachable = re.search(r"at most (0\.\d+) of (?:its|the) weights", str(error))
            if reachable is None or float(reachable[1]) <= 0:
                raise
            settings = replace(settings, ratio=float(reachable[1]))
            report = compress(settings)
        if report.status != "ok" or report.ratio is None:
            raise Mismatch("; ".join(report.reasons))
        if report.verify is None or not report.verify.passed:
            raise Mismatch(f"verification: {report.verify}")
        emitted = onnx.load(Path(folder) / "model.onnx")
        onnx.checker.check_model(emitted, full_check=True)
        _interface(path, emitted)
        return {
            "ratio": settings.ratio,
            "physical": round(report.ratio.physical, 4),
            "split": sum(layer.clusters > 1 for layer in report.layers),
            "max_rel_diff": report.verify.max_rel_diff,
        }
