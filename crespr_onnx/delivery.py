"""The second half of a run: from the fine-tuned model to the files, proven and measured."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from crespr_onnx.compiling import Compilable, Compiled, Compiling, Emitted, note_format, stage
from crespr_onnx.files import OutputFolder
from crespr_onnx.forms import of_run
from crespr_onnx.graph.save import saved_bytes
from crespr_onnx.layout import Layout
from crespr_onnx.passes.layer_forms import forms_of
from crespr_onnx.progress import Listener, Progress
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages import deliver, measure
from crespr_onnx.stages.ledger import Ledger
from crespr_onnx.stages.lower import arrange, fold
from crespr_onnx.stages.narrow import narrow
from crespr_onnx.stages.narrow_proof import describe_narrow
from crespr_onnx.stages.prepare import Data, Prepared
from crespr_onnx.stages.proof import prove_equal
from crespr_onnx.targets import find_target


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
        self._prove(tuned, model)
        emitted = self._write(model)
        self._measure(model, emitted)
        signature = self.prepared.loaded.signature
        sample = measure.one_sample(signature, self.data.evaluation, self.settings)
        compiled = None
        if find_target(self.settings.target).compiles:
            compilable = self._arrange_artefact(folded, model)
            if compilable.model is not model:
                self._prove(tuned, compilable.model)
            compiling = Compiling(
                self.settings, self.prepared, self.folder.path, self.ledger, self.listener
            )
            compiled = compiling.run(emitted, compilable, sample)
        self._time(emitted, sample, compiled)

    def _prove(self, tuned: ir.Model, model: ir.Model) -> None:
        with self._stage("verify", "verifying"):
            earlier = self.ledger.report.verify
            self.ledger.note(
                verify=prove_equal(tuned, model, self.settings, self.data.evaluation, earlier)
            )

    def _arrange(self, folded: ir.Model) -> ir.Model:
        """The model in the forms that are asked for, or that take the least time."""
        chosen = of_run.given_forms(folded, self.settings)
        if of_run.is_choice(folded, self.settings):
            told = "choosing forms"
            with self._stage("forms", told):
                chosen = of_run.forms_for_model(
                    folded, self.settings, self.prepared, self._share(told)
                )
        with self.ledger.clock("passes"):
            model = arrange(folded, chosen.forms)
        layers = measure.layer_records(
            self.prepared.graph, self.layout, forms_of(model), chosen.reasons
        )
        self.ledger.note(layers=layers)
        return model

    def _arrange_artefact(self, folded: ir.Model, model: ir.Model) -> Compilable:
        """What the artefact is compiled from: the model in the forms that suit its machine."""
        if not of_run.is_choice(folded, self.settings):
            return Compilable(model)
        told = "choosing forms of the artefact"
        with self._stage("forms", told):
            chosen = of_run.forms_for_artefact(
                folded, self.settings, self.prepared, self._share(told)
            )
        with self.ledger.clock("passes"):
            arranged = arrange(folded, chosen.forms)
        forms = forms_of(arranged)
        layers = measure.artefact_layers(self.prepared.graph, forms, chosen.reasons)
        return Compilable(model if forms == forms_of(model) else arranged, layers)

    def _share(self, told: str) -> Callable[[float], None]:
        return lambda share: self.listener(Progress(told, share))

    def _write(self, model: ir.Model) -> Emitted:
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
        return Emitted(emitted, path, wide)

    def _write_model(self, model: ir.Model, name: str) -> Path:
        return deliver.write_model(
            model, self.prepared, self.layout, self.settings, self.folder, name
        )

    def _measure(self, model: ir.Model, emitted: Emitted) -> None:
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

    def _time(self, emitted: Emitted, sample: deliver.Arrays, compiled: Compiled | None) -> None:
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
                note_format(self.ledger, latency_float32_ms=other, bytes_float32=saved_bytes(wide))

    def _stage(self, name: str, told: str) -> AbstractContextManager[None]:
        return stage(self.ledger, self.listener, name, told)
