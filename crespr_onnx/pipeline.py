"""The whole story of a run: a model and data in, a folder of proven results out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from crespr_onnx import processes
from crespr_onnx.config import to_table, to_toml
from crespr_onnx.delivery import Delivery
from crespr_onnx.errors import CresprError
from crespr_onnx.files import OutputFolder
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.graph.save import model_bytes
from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.passes.layer_forms import Form, forms_of
from crespr_onnx.progress import Listener, Progress, silent
from crespr_onnx.record import LayerRecord, Ratio, Report
from crespr_onnx.report import write_report
from crespr_onnx.settings import CompressSettings
from crespr_onnx.settings_check import check_settings
from crespr_onnx.stages import deliver, gates, measure, plan_layout, train
from crespr_onnx.stages.any_batch import as_declared, for_any_batch
from crespr_onnx.stages.choose_plan import choose_plan
from crespr_onnx.stages.ledger import Ledger
from crespr_onnx.stages.lower import finish, split
from crespr_onnx.stages.masking import masked_copy
from crespr_onnx.stages.narrow import check_number_format
from crespr_onnx.stages.prepare import Data, Prepared, count_work, prepare_data, prepare_model
from crespr_onnx.stages.proof import prove_equal
from crespr_onnx.stages.resume import Workbench
from crespr_onnx.stages.tune_artefact import tuning_of
from crespr_onnx.targets import find_target
from crespr_onnx.targets.remote import find_board, greet
from crespr_onnx.training.lesson import Lesson
from crespr_onnx.training.together import on_main


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        ratio: sizes before and after; those after are of the split model before fine-tuning.
        layers: what would become of every layer.
    """

    ratio: Ratio
    layers: tuple[LayerRecord, ...]


def plan(settings: CompressSettings, listener: Listener = silent) -> Plan:
    """Checks everything and chooses a layout, without training or writing anything.

    Raises:
        CresprError: whatever `compress` would raise before it starts.
    """
    prepared, data = _check(settings, listener)
    lesson = train.make_lesson(prepared.model, data.train, settings, listener)
    layout = _possible_plans(prepared.model, prepared.graph, lesson, settings)[0].layout
    masked = masked_copy(prepared.model, prepared.graph, layout)
    # What is fastest shows only when it is measured; all forms but dense ones store the same.
    form: Form = "separate" if settings.form == "separate" else "grouped"
    small = finish(split(masked, prepared.graph, layout), form)
    forms: Mapping[str, str] = forms_of(small)
    if settings.form == "auto":
        forms = dict.fromkeys(forms, "auto")
    layers = measure.layer_records(prepared.graph, layout, forms)
    return Plan(measure.measure_ratio(settings, prepared, small, model_bytes(small)), layers)


def compress(settings: CompressSettings, listener: Listener = silent, command: str = "") -> Report:
    """Compresses a model and writes everything that proves it to the output folder.

    Where a launcher started several processes, all of them train; the main one does all else.

    Args:
        settings: what to do.
        listener: told about progress.
        command: the command line, for the report.

    Returns:
        The report, which is in the folder as well. Its exit code is not 0 if verification,
        compiling or a gate failed.

    Raises:
        UsageError, ModelError, DataError: before anything is written.
    """
    ledger = Ledger(command, to_table(settings), settings.seed)
    with ledger.clock("load"):
        prepared, data = _check(settings, listener)
    folder, bench = on_main(lambda: _open(settings, prepared, data))

    def close(failures: list[CresprError]) -> Report:
        report = ledger.close(failures, gates.remarks(ledger.report))
        if processes.is_main():
            write_report(report, folder.path)
        return report

    def finish() -> Report:
        try:
            delivery = Delivery(settings, prepared, data, layout, folder, ledger, listener)
            delivery.run(tuned)
            failures = gates.check_gates(settings, ledger.report)
            bench.clear()
        except CresprError as error:
            failures = [error]
        return close(failures)

    try:
        layout, tuned = _train(settings, prepared, data, bench, ledger, listener)
    except CresprError as error:
        # Each by itself: where only one process failed, the others never come here.
        return close([error])
    return on_main(finish)


def _open(
    settings: CompressSettings, prepared: Prepared, data: Data
) -> tuple[OutputFolder, Workbench]:
    """The folder of results, and that of checkpoints in it."""
    output = settings.output or Path(f"compressed-{settings.model.stem}")
    folder = OutputFolder.open(
        output, force=settings.force, resume=settings.resume, owned=deliver.FILES
    )
    bench = Workbench.open(folder.path, settings, prepared.loaded, data.train)
    folder.write("config.toml", to_toml(settings))
    return folder, bench


def _check(settings: CompressSettings, listener: Listener) -> tuple[Prepared, Data]:
    """Everything that can be wrong with the request, found before any work is done."""
    check_settings(settings)
    check_number_format(settings)
    tuning_of(settings)
    board = find_board(settings.rpc, find_target(settings.target))
    if board is not None:
        listener(Progress(f"connecting to {board}"))
        on_main(lambda: greet(board))
    listener(Progress("reading model and data"))
    prepared = prepare_model(settings.model)
    input_shapes_for(prepared.loaded.signature, 1, settings.input_shapes or None)
    prepared = count_work(prepared, settings)
    plan_layout.check_ratio(prepared.graph, settings)
    if settings.data is not None or settings.eval_data is not None:
        prepared = for_any_batch(prepared, settings)
    data = prepare_data(settings, prepared)
    if data.train is not None:
        train.check_trainable(prepared.model)
    return prepared, data


def _train(
    settings: CompressSettings,
    prepared: Prepared,
    data: Data,
    bench: Workbench,
    ledger: Ledger,
    listener: Listener,
) -> tuple[Layout, ir.Model]:
    """From the dense model to the fine-tuned small one, by way of the restricted one."""
    dense, graph = prepared.model, prepared.graph
    with ledger.clock("verify"):
        original, declared = prepared.loaded.model, as_declared(dense, prepared)
        ledger.note(verify=on_main(lambda: prove_equal(original, declared, settings, None)))
    with ledger.clock("teacher"):
        lesson = train.make_lesson(dense, data.train, settings, listener)
    restricted = bench.load_restricted(graph)
    if restricted is None:
        with ledger.clock("cluster"):
            listener(Progress("clustering channels"))
            plans = on_main(lambda: _possible_plans(dense, graph, lesson, settings))
        with ledger.clock("trials"):
            chosen = choose_plan(dense, graph, plans, lesson, settings, listener)
        with ledger.clock("restrict"):
            checkpoint = bench.training("restrict")
            restricted = train.restrict(
                dense, graph, chosen, lesson, settings, checkpoint, listener
            )
        fresh = restricted
        on_main(lambda: bench.keep_restricted(*fresh, graph))
    masked, layout = restricted
    with ledger.clock("passes"):
        listener(Progress("splitting clusters"))
        small = split(masked, graph, layout)
    with ledger.clock("verify"):
        before = ledger.report.verify
        ledger.note(
            verify=on_main(lambda: prove_equal(masked, small, settings, data.evaluation, before))
        )
    with ledger.clock("tune"):
        tuned = train.tune(small, lesson, settings, bench.training("tune"), listener)
    return layout, tuned


def _possible_plans(
    dense: ir.Model, graph: ChannelGraph, lesson: Lesson | None, settings: CompressSettings
) -> list[plan_layout.LayoutPlan]:
    scores = train.score(dense, graph, lesson, settings)
    return plan_layout.possible_plans(graph, settings, scores)
