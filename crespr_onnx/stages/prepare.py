"""From a file to a checked model with its channels, and from a source to data that fits it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from crespr_onnx.data import Samples, load_data
from crespr_onnx.errors import DataError, ModelError, UsageError
from crespr_onnx.graph.accounting import node_costs, with_macs
from crespr_onnx.graph.channels import Obstacle, find_channels
from crespr_onnx.graph.load import LoadedModel, errors_of, load_model
from crespr_onnx.graph.session import make_session, run
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.layout import ChannelGraph
from crespr_onnx.passes.check_operands import check_operands
from crespr_onnx.passes.explicit_pads import ExplicitPads
from crespr_onnx.passes.fix_reshape_targets import FixReshapeTargets
from crespr_onnx.passes.fix_sizes import FixSizes
from crespr_onnx.passes.fold_constants import FoldConstants
from crespr_onnx.passes.fold_weight_views import FoldWeightViews
from crespr_onnx.passes.resize_in_space import ResizeInSpace
from crespr_onnx.passes.resolve_if import ResolveIf
from crespr_onnx.passes.shuffle_to_gather import ShuffleToGather
from crespr_onnx.passes.spec import check_imported
from crespr_onnx.settings import CompressSettings

MIN_SAMPLES = 8
HELD_OUT = 0.1
"""Share of the training data that stands in for missing evaluation data."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model that is ready to be compressed.

    Attributes:
        loaded: the model as it was read.
        model: a working copy with its constants folded.
        graph: channels of the working copy.
        obstacles: nodes that the analysis could not follow.
    """

    loaded: LoadedModel
    model: ir.Model
    graph: ChannelGraph
    obstacles: tuple[Obstacle, ...]


def analyse_model(path: Path) -> Prepared:
    """Loads a model and finds its channels.

    Raises:
        ModelError: if the model cannot be read.
    """
    loaded = load_model(path)
    with errors_of(path):
        model = loaded.model.clone(deep_copy=True)
        _fix_constants(model)
        check_imported(model)
        check_operands(model)
        _write_plainly(model)
        check_operands(model)
        graph, obstacles = find_channels(model)
    return Prepared(loaded, model, graph, obstacles)


def prepare_model(path: Path) -> Prepared:
    """The same for a model that is to be compressed.

    Raises:
        ModelError: if the model cannot be read or nothing in it can be pruned.
    """
    prepared = analyse_model(path)
    if all(group.frozen is not None for group in prepared.graph.groups):
        reasons = "; ".join(f"{o.op} '{o.node}': {o.reason}" for o in prepared.obstacles[:2])
        raise ModelError(
            f"{path}: no prunable operator: "
            + (reasons or "it has no Conv, Gemm or MatMul with weights between two channel groups")
        )
    return prepared


def count_work(prepared: Prepared, settings: CompressSettings) -> Prepared:
    """The same with the multiply-accumulates of every edge, if --mac-ratio asks for fewer.

    Raises:
        UsageError: if a shape that they depend on is not known.
    """
    if settings.mac_ratio is None:
        return prepared
    with errors_of(prepared.loaded.path):
        costs = node_costs(prepared.model, settings.input_shapes or None)
    unknown = next((cost for cost in costs if cost.counts and cost.macs is None), None)
    if unknown is not None:
        raise UsageError(
            f"--mac-ratio needs to know what {unknown.op} '{unknown.name}' computes, but the shape "
            "that it works on is not known; give the shapes of all inputs with --input-shape, or "
            "leave --mac-ratio out"
        )
    return replace(prepared, graph=with_macs(prepared.graph, costs))


def _fix_constants(model: ir.Model) -> None:
    """Makes initializers of what is constant, and resolves the branches that depend on it.

    Shapes behind a branch can make the condition of the next one constant.
    """
    FoldConstants()(model)
    infer_shapes(model)
    while ResolveIf()(model).modified:
        FoldConstants()(model)
        infer_shapes(model)


def _write_plainly(model: ir.Model) -> None:
    """What exporters compute at run time, in the form that the channel analysis follows."""
    # The shape behind one node may be what the sizes of the next are computed from.
    while any([FixSizes()(model).modified, FixReshapeTargets()(model).modified]):
        infer_shapes(model)
    for graph_pass in (FoldWeightViews(), ResizeInSpace(), ShuffleToGather(), ExplicitPads()):
        if graph_pass(model).modified:
            infer_shapes(model)


def infer_shapes(model: ir.Model) -> None:
    """Fills in the shapes of all values, in place; outputs keep what they declare."""
    declared = [value.shape for value in model.graph.outputs]
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for value, shape in zip(model.graph.outputs, declared, strict=True):
        if shape is not None:
            value.shape = shape


@dataclass(frozen=True, eq=False)
class Data:
    """Data of a run.

    Attributes:
        train: samples to train or calibrate on, or None.
        evaluation: samples that the metric is measured on, or None.
        held_out: whether `evaluation` was taken out of the training data.
    """

    train: Samples | None
    evaluation: Samples | None
    held_out: bool = False


def prepare_data(settings: CompressSettings, prepared: Prepared) -> Data:
    """Reads the data that the settings name.

    Raises:
        DataError: if it does not fit the model, or training was asked for without any.
    """
    signature = signature_of(prepared.model)
    if settings.data is None and settings.epochs > 0:
        raise DataError(
            f"--epochs {settings.epochs} needs --data that the model was trained on: {signature}; "
            "give it, or --epochs 0 to prune by the weights alone"
        )
    train = evaluation = None
    if settings.data is not None:
        train = load_data(settings.data, signature, images=settings.images, min_samples=MIN_SAMPLES)
        _try_batch(prepared, train, settings.data)
    if settings.eval_data is not None:
        evaluation = load_data(settings.eval_data, signature, images=settings.images)
        _try_batch(prepared, evaluation, settings.eval_data)
        return Data(train, evaluation)
    if train is None:
        return Data(None, None)
    rest, held = train.split(HELD_OUT, settings.seed)
    return Data(rest, held, held_out=True)


def _try_batch(prepared: Prepared, samples: Samples, source: str) -> None:
    """Runs the model on a few samples, so that bad data is told from a bad model at once."""
    try:
        run(make_session(prepared.model), samples.batch(np.arange(min(2, len(samples)))))
    except ModelError as error:
        raise DataError(
            f"{source}: the model does not run on this data ({error}); it takes "
            f"{prepared.loaded.signature}"
        ) from error
