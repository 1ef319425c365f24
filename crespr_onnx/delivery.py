"""The second half of a run: from the fine-tuned model to the files, proven and measured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import Any

import onnx_ir as ir

from crespr_onnx.files import OutputFolder
from crespr_onnx.forms.cache import user_cache
from crespr_onnx.forms.decide import Decision, decide
from crespr_onnx.forms.engine import OnnxRuntime
from crespr_onnx.forms.explain import explain
from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.random_inputs import input_shapes_for
from crespr_onnx.graph.save import saved_bytes
from crespr_onnx.layout import Layout
from crespr_onnx.passes.layer_forms import FORMS, Form, forms_of, split_layers
from crespr_onnx.progress import Listener, Progress
from crespr_onnx.record import RemoteLatency
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages import deliver, measure
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.ledger import Ledger
from crespr_onnx.stages.lower import arrange, fold
from crespr_onnx.stages.narrow import narrow
from crespr_onnx.stages.narrow_artefact import TOLERANCES, compile_either
from crespr_onnx.stages.narrow_proof import describe_narrow
from crespr_onnx.stages.prepare import Data, Prepared, infer_shapes
from crespr_onnx.stages.proof import prove_equal
from crespr_onnx.stages.remote import expected_on, measure_on_board, place_on
from crespr_onnx.stages.tune_artefact import tune_artefact, tuning_of
from crespr_onnx.targets import find_target
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.remote import Board, find_board
from crespr_onnx.targets.tuning.request import Tuning

ROUNDING = 1e-6
"""1 - 0.9 is a little less than a tenth in binary fractions."""


@dataclass(frozen=True, eq=False)
class _Emitted:
    """The model that is delivered.

    Attributes:
        model: its content.
        path: its file.
        wide: file and content of its float32 form, if it has another number format.
    """

    model: ir.Model
    path: Path
    wide: tuple[Path, ir.Model] | None


@dataclass(frozen=True, eq=False)
class _Compiled:
    """What was compiled.

    Attributes:
        artefact: its files are in the output folder.
        source: the file whose outputs it is compared with.
        tolerance: share of the largest output by which it may differ from that.
        remote: times on the board, if there is one.
    """

    artefact: Artefact
    source: Path
    tolerance: float
    remote: RemoteLatency | None = None


@dataclass(frozen=True, eq=False)
class Delivery:
    """A run whose model is trained.

    Attributes:
        settings: of the run.
        prepared: the input model.
        data: what it is evaluated on.
        layout: clusters and dropped channels.
        folder: receives the files.
        ledger: keeps the record.
        listener: told about progress.
    """

    settings: CompressSettings
    prepared: Prepared
    data: Data
    layout: Layout
    folder: OutputFolder
    ledger: Ledger
    listener: Listener

    def run(self, tuned: ir.Model) -> None:
        """Chooses forms, writes, proves and measures.

        Args:
            tuned: the small model, fine-tuned.

        Raises:
            CresprError: the passes or the compiler changed what it computes, or the target fails.
        """
        folded = fold(tuned)
        model = self._arrange(folded)
        with self._stage("verify", "verifying"):
            earlier = self.ledger.report.verify
            self.ledger.note(
                verify=prove_equal(tuned, model, self.settings, self.data.evaluation, earlier)
            )
        emitted = self._write(model)
        self._measure(model, emitted)
        signature = self.prepared.loaded.signature
        sample = measure.one_sample(signature, self.data.evaluation, self.settings)
        compiled = None
        if find_target(self.settings.target).compiles:
            compiled = self._compile(emitted, sample)
        self._time(emitted, sample, compiled)

    def _arrange(self, folded: ir.Model) -> ir.Model:
        """The model in the forms that are asked for, or that take the least time."""
        reasons: Mapping[str, str] = {}
        if self.settings.form == "auto":
            decision = self._decide(folded)
            forms, reasons = decision.forms, explain(decision, self.prepared.graph)
        else:
            forms = dict.fromkeys(split_layers(folded), _forced(self.settings.form))
        with self.ledger.clock("passes"):
            model = arrange(folded, forms)
        layers = measure.layer_records(self.prepared.graph, self.layout, forms_of(model), reasons)
        self.ledger.note(layers=layers)
        return model

    def _decide(self, folded: ir.Model) -> Decision:
        if not split_layers(folded):
            return Decision()
        with self._stage("forms", "choosing forms"):
            declared = as_declared(folded, self.prepared)
            infer_shapes(declared)
            shapes = input_shapes_for(
                self.prepared.loaded.signature, 1, self.settings.input_shapes or None
            )
            return decide(
                declared,
                shapes,
                OnnxRuntime(),
                self._room(folded),
                user_cache(),
                lambda share: self.listener(Progress("choosing forms", share)),
            )

    def _room(self, folded: ir.Model) -> int:
        """How many weights the model may store beyond what it does with all layers grouped.

        None if work was limited as well: zeros are multiplied, too.
        """
        if self.settings.mac_ratio is not None:
            return 0
        allowed = floor((1.0 - self.settings.ratio) * self.prepared.graph.weights + ROUNDING)
        return max(0, allowed - stored_weights(folded))

    def _write(self, model: ir.Model) -> _Emitted:
        """Writes the model, in the number format that is asked for, and its modules."""
        settings, wide, emitted = self.settings, None, model
        if settings.number_format != "float32":
            with self._stage("narrow", f"converting to {settings.number_format}"):
                wide = (self._write_model(model, deliver.FLOAT32_MODEL), model)
                narrowed = narrow(model, self.data.train, settings)
                emitted = narrowed.model
                self.ledger.note(
                    number_format=describe_narrow(
                        self.prepared.model, model, narrowed, self.data.evaluation, settings
                    )
                )
        path = self._write_model(emitted, deliver.MODEL)
        modules = deliver.describe_modules(self.prepared.graph, self.layout)
        self.folder.write("modules.json", modules)
        return _Emitted(emitted, path, wide)

    def _write_model(self, model: ir.Model, name: str) -> Path:
        return deliver.write_model(
            model, self.prepared, self.layout, self.settings, self.folder, name
        )

    def _measure(self, model: ir.Model, emitted: _Emitted) -> None:
        """Notes size, work and quality; weights are counted in float32."""
        with self._stage("measure", "measuring"):
            size = saved_bytes(emitted.path)
            self.ledger.note(
                input=measure.input_record(self.prepared),
                output=measure.file_record(emitted.path),
                ratio=measure.measure_ratio(self.settings, self.prepared, model, size),
                metric=measure.measure_quality(
                    self.prepared.model, emitted.model, self.data.evaluation, self.settings
                ),
            )

    def _compile(self, emitted: _Emitted, sample: deliver.Arrays) -> _Compiled:
        """Compiles and checks the artefact, and times it on the board if there is one."""
        settings = self.settings
        board = find_board(settings.rpc, find_target(settings.target))
        with self._stage("compile", f"compiling for {settings.target}"):
            built = self._build(emitted, sample, board)
        if (tuning := tuning_of(settings)) is not None:
            with self._stage("kernels", "tuning kernels"):
                built = self._tune(built, sample, tuning)
        if board is None:
            return built
        with self._stage("remote", f"measuring on {board}"):
            remote = measure_on_board(
                board,
                built.artefact,
                built.source,
                self.prepared,
                settings,
                sample,
                built.tolerance,
            )
            compiled = replace(built.artefact, place=place_on(board, settings.target))
            self.ledger.note(artefact=measure.artefact_record(compiled))
        return replace(built, artefact=compiled, remote=remote)

    def _tune(self, built: _Compiled, sample: deliver.Arrays, tuning: Tuning) -> _Compiled:
        """Takes kernels that were measured to be faster."""
        artefact, tuned = tune_artefact(
            built.artefact,
            built.source,
            built.tolerance,
            self.prepared,
            self.settings,
            sample,
            tuning,
            self.listener,
        )
        self.ledger.note(artefact=measure.artefact_record(artefact), tuning=tuned)
        return replace(built, artefact=artefact)

    def _build(self, emitted: _Emitted, sample: deliver.Arrays, board: Board | None) -> _Compiled:
        settings, folder = self.settings, self.folder.path
        narrow = (emitted.path, emitted.model)
        if emitted.wide is not None:
            chosen = compile_either(emitted.wide, narrow, self.prepared, settings, folder, sample)
            self.ledger.note(artefact=measure.artefact_record(chosen.artefact))
            self._note_format(artefact=chosen.number_format, artefact_reason=chosen.reason)
            if chosen.number_format != "float32":
                tolerance = TOLERANCES[chosen.number_format]
                return _Compiled(chosen.artefact, emitted.path, tolerance)
            return _Compiled(chosen.artefact, emitted.wide[0], deliver.ARTEFACT_TOLERANCE)
        compiled = deliver.compile_target(*narrow, self.prepared, settings, folder)
        if board is not None:
            compiled = replace(compiled, place=expected_on(board, settings.target))
        self.ledger.note(artefact=measure.artefact_record(compiled))
        if board is None and compiled.place.ran != "nowhere":
            deliver.check_artefact(folder, emitted.path, sample)
        return _Compiled(compiled, emitted.path, deliver.ARTEFACT_TOLERANCE)

    def _time(self, emitted: _Emitted, sample: deliver.Arrays, compiled: _Compiled | None) -> None:
        """Times dense and compressed model, and the artefact, side by side."""
        wide = None if emitted.wide is None else emitted.wide[0]
        with self._stage("latency", "timing"):
            latency, other = deliver.measure_latency(
                self.settings.model,
                emitted.path,
                sample,
                None if compiled is None else compiled.artefact,
                wide,
            )
            remote = None if compiled is None else compiled.remote
            self.ledger.note(latency_ms=replace(latency, remote=remote))
            if wide is not None:
                self._note_format(latency_float32_ms=other, bytes_float32=saved_bytes(wide))

    def _note_format(self, **found: Any) -> None:  # noqa: ANN401
        """Adds to what is known of the narrow model."""
        formats = self.ledger.report.number_format
        assert formats is not None
        self.ledger.note(number_format=replace(formats, **found))

    @contextmanager
    def _stage(self, name: str, told: str) -> Iterator[None]:
        """Tells what is being done, and adds the time that it takes to the record."""
        with self.ledger.clock(name):
            self.listener(Progress(told))
            yield


def _forced(form: str) -> Form:
    return next(known for known in FORMS if known == form)
