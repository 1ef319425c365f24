"""Folders of results for the tests of `bench`, without the training that makes real ones."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline_models import FIXED, MLP, normal, write_mlp, write_model


def results(folder: Path, **changes: Any) -> Path:
    """A folder that looks as if `compress` had left it; its dense model lies beside it.

    Args:
        folder: where to make it.
        changes: sections of the report to replace; None leaves a section out.
    """
    folder.mkdir()
    dense = write_mlp(folder.parent)
    small_mlp(folder / "model.onnx")
    document = {
        "schema": 1,
        "status": "ok",
        "input": {"path": str(dense), "sha256": hashlib.sha256(dense.read_bytes()).hexdigest()},
        "config": {"model": str(dense), "target": "onnx"},
        **changes,
    }
    kept = {key: value for key, value in document.items() if value is not None}
    (folder / "report.json").write_text(json.dumps(kept))
    return folder


def small_mlp(path: Path) -> Path:
    """The MLP with hidden layers of 4 instead of 16."""
    arrays = {
        "w1": normal(1, 8, 4), "b1": normal(2, 4), "w2": normal(3, 4, 4),
        "w3": normal(5, 3, 4), "b3": normal(6, 3),
    }  # fmt: skip
    return write_model(path, MLP, **arrays)


def fixed_model(path: Path) -> Path:
    """A model for batches of two."""
    return write_model(path, FIXED, w1=normal(1, 8, 16), w2=normal(2, 16, 3))
