"""What came out: quality, size, work and speed, dense against compressed."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.data import Samples
from crespr_onnx.graph.accounting import node_costs, stored_weights
from crespr_onnx.graph.random_inputs import random_inputs
from crespr_onnx.graph.save import saved_bytes
from crespr_onnx.graph.signature import ModelSignature
from crespr_onnx.layout import ChannelGraph, Layout, WeightedEdge
from crespr_onnx.passes.layer_forms import form_word
from crespr_onnx.record import ArtefactLayer, ArtefactRecord, FileRecord, LayerRecord, Metric, Ratio
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.answers import answers_of
from crespr_onnx.stages.prepare import Prepared
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.training.knobs import FEWEST_INPUTS

Array = NDArray[np.float32]


def measure_quality(
    dense: ir.Model, compressed: ir.Model, samples: Samples | None, settings: CompressSettings
) -> Metric | None:
    """Accuracy on labels; without labels agreement with the dense model, or explained variance.

    Agreement is the share of samples with the same highest score; explained variance, for outputs
    that are not a row of scores, is 1 - (squared difference) / (variance of the dense output). The
    first output with a row per sample counts; without one there is nothing to measure.
    """
    if samples is None:
        return None
    first, second = _first_answers(dense, compressed, samples, settings)
    if first is None or second is None:
        return None
    n = len(samples)
    if first.ndim != 2 or first.shape[1] < 2:
        spread = float(np.var(first)) or 1.0
        explained = 1.0 - float(np.mean((first - second) ** 2)) / spread
        return Metric("explained variance", 1.0, explained, 1.0 - explained, n)
    choices = first.argmax(axis=1), second.argmax(axis=1)
    if samples.labels is None:
        same = float(np.mean(choices[0] == choices[1]))
        return Metric("agreement", 1.0, same, 1.0 - same, n)
    right, still = (float(np.mean(choice == samples.labels)) for choice in choices)
    return Metric("accuracy", right, still, right - still, n)


def _first_answers(
    dense: ir.Model, compressed: ir.Model, samples: Samples, settings: CompressSettings
) -> tuple[Array | None, Array | None]:
    """What both models answer, at the first output that has a row per sample."""
    threads = settings.threads or os.cpu_count() or 1
    for output in dense.graph.outputs:
        # One output at a time: all those of a detector, say, need not fit the memory together.
        names = [output.name or ""]
        (first,) = answers_of(dense, samples, threads, outputs=names)
        if first is not None:
            (second,) = answers_of(compressed, samples, threads, outputs=names)
            return first, second
    return None, None


def one_sample(
    signature: ModelSignature, samples: Samples | None, settings: CompressSettings
) -> dict[str, NDArray[np.generic]]:
    """A batch of one to time on: the first sample, or random numbers where there is none."""
    if samples is not None:
        batch: dict[str, NDArray[np.generic]] = samples.batch(np.arange(1))
        return batch
    rng = np.random.default_rng(settings.seed)
    return random_inputs(signature, rng, given=settings.input_shapes or None)


def measure_ratio(
    settings: CompressSettings, prepared: Prepared, model: ir.Model, size: int
) -> Ratio:
    """Weights, work and bytes before and after; what is stored is counted in the emitted graph."""
    before, after = prepared.graph.weights, stored_weights(model)
    return Ratio(
        requested=settings.ratio,
        physical=1.0 - after / before,
        weights_before=before,
        weights_after=after,
        macs_before=_edge_macs(prepared.model, settings),
        macs_after=_edge_macs(model, settings),
        bytes_before=prepared.loaded.bytes,
        bytes_after=size,
        mac_requested=settings.mac_ratio,
    )


def _edge_macs(model: ir.Model, settings: CompressSettings) -> int:
    """Multiply-accumulates per sample in weighted edges; 0 where a shape is not known."""
    costs = node_costs(model, settings.input_shapes or None)
    return sum(c.macs or 0 for c in costs if c.counts)


def file_record(path: Path) -> FileRecord:
    """Path, checksum and size of a file that was written; weights beside it count in the size."""
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(str(path), checksum, saved_bytes(path))


def artefact_record(artefact: Artefact) -> ArtefactRecord:
    """What was compiled, where it runs, and the size of all that it needs there."""
    library = file_record(artefact.folder / next(iter(artefact.files)))
    return ArtefactRecord(
        path=library.path,
        sha256=library.sha256 or "",
        bytes=library.bytes or 0,
        target=artefact.target.name,
        ran=artefact.place.ran,
        remark=artefact.place.remark,
        files=artefact.files,
        needs=artefact.needs,
        kernels=tuple(artefact.kernels),
    )


def input_record(prepared: Prepared) -> FileRecord:
    """The same of the input model, external data included in the size."""
    return FileRecord(str(prepared.loaded.path), prepared.loaded.sha256, prepared.loaded.bytes)


def layer_records(
    graph: ChannelGraph,
    layout: Layout,
    forms: Mapping[str, str],
    reasons: Mapping[str, str] | None = None,
) -> tuple[LayerRecord, ...]:
    """What became of every weighted edge, and why.

    Args:
        graph: channels of the input model.
        layout: clusters and dropped channels.
        forms: of the layers that were split, as the emitted graph has them.
        reasons: why they have these forms, as far as there is something to say.
    """
    return tuple(_layer(graph, layout, edge, forms, reasons or {}) for edge in graph.edges)


def _layer(
    graph: ChannelGraph,
    layout: Layout,
    edge: WeightedEdge,
    forms: Mapping[str, str],
    reasons: Mapping[str, str],
) -> LayerRecord:
    after = layout.stored_weights(graph, edge)
    selection = layout.selections.get(edge.name)
    kept = layout.kept(edge.in_channels)
    if selection is None or selection[kept].all():
        reason = edge.frozen or _why_dense(graph, layout, edge)
        return LayerRecord(edge.name, edge.op, edge.weights, after, 1, "dense", reason)
    clusters, form = selection.shape[1], "dense"
    reads = f"{int(selection[kept, 0].sum())} of {len(kept)} inputs"
    if clusters > 1:
        form = form_word(forms.get(edge.name, "grouped"), batched=not edge.is_convolution)
        if form == "dense":  # its zeros are stored as well
            after = int(kept.sum()) * int(layout.kept(edge.out_channels).sum()) * edge.kernel
        reason = f"{clusters} clusters, each reads {reads}"
        if why := reasons.get(edge.name):
            reason += f"; {why}"
    else:
        reason = f"one cluster, which reads {reads}"
    return LayerRecord(edge.name, edge.op, edge.weights, after, clusters, form, reason)


def artefact_layers(
    graph: ChannelGraph, forms: Mapping[str, str], reasons: Mapping[str, str]
) -> tuple[ArtefactLayer, ...]:
    """The forms of split layers in the artefact, and why, in topological order."""
    return tuple(
        ArtefactLayer(
            edge.name,
            form_word(forms[edge.name], batched=not edge.is_convolution),
            reasons[edge.name],
        )
        for edge in graph.edges
        if edge.name in forms and edge.name in reasons
    )


def _why_dense(graph: ChannelGraph, layout: Layout, edge: WeightedEdge) -> str:
    if sum(other.weight == edge.weight for other in graph.edges) > 1:
        why = "shares its weights with another layer"
    elif len(edge.in_channels) < FEWEST_INPUTS:
        why = f"has fewer than {FEWEST_INPUTS} inputs"
    else:
        why = "reads all inputs that are kept"
    sides = np.concatenate([edge.in_channels, edge.out_channels])
    return f"{why}: {'stays as it is' if layout.kept(sides).all() else 'shrunk only'}"
