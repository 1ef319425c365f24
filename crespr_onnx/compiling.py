"""From the model that is delivered to its compiled artefact, checked, tuned and timed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from crespr_onnx.graph.save import save_model
from crespr_onnx.progress import Listener, Progress
from crespr_onnx.record import ArtefactLayer, RemoteLatency
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages import deliver, measure
from crespr_onnx.stages.any_batch import as_declared
from crespr_onnx.stages.ledger import Ledger
from crespr_onnx.stages.narrow_artefact import TOLERANCES, compile_either
from crespr_onnx.stages.prepare import Prepared
from crespr_onnx.stages.remote import expected_on, measure_on_board, place_on
from crespr_onnx.stages.tune_artefact import tune_artefact, tuning_of
from crespr_onnx.targets import find_target
from crespr_onnx.targets.artefact import Artefact
from crespr_onnx.targets.remote import Board, find_board
from crespr_onnx.targets.tuning.request import Tuning


@dataclass(frozen=True, eq=False)
class Emitted:
    """The model that is delivered.

    Attributes:
        model: its content.
        path: its file.
        wide: file and content of its float32 form, if it has another number format.
    """

    model: ir.Model
    path: Path
    wide: tuple[Path, ir.Model] | None

    @property
    def float32(self) -> tuple[Path, ir.Model]:
        """File and content in float32."""
        return (self.path, self.model) if self.wide is None else self.wide


@dataclass(frozen=True, eq=False)
class Compilable:
    """What the artefact is compiled from.

    Attributes:
        model: in float32, and in forms for the machine that the artefact is for.
        layers: these forms, where they were chosen.
    """

    model: ir.Model
    layers: tuple[ArtefactLayer, ...] = ()


@dataclass(frozen=True, eq=False)
class Compiled:
    """What was compiled.

    Attributes:
        artefact: its files are in the output folder.
        source: the file that it was compiled from.
        tolerance: share of the largest output by which it may differ from that.
        layers: forms of its split layers, where they were chosen.
        remote: times on the board, if there is one.
    """

    artefact: Artefact
    source: Path
    tolerance: float
    layers: tuple[ArtefactLayer, ...]
    remote: RemoteLatency | None = None


@dataclass(frozen=True, eq=False)
class Compiling:
    """A run whose model is written.

    Attributes:
        settings: of the run.
        prepared: the input model.
        folder: receives the artefact.
        ledger: keeps the record.
        listener: told about progress.
    """

    settings: CompressSettings
    prepared: Prepared
    folder: Path
    ledger: Ledger
    listener: Listener

    def run(self, emitted: Emitted, compilable: Compilable, sample: deliver.Arrays) -> Compiled:
        """Compiles and checks the artefact, tunes it, and times it on the board if there is one.

        Args:
            emitted: the model that is delivered.
            compilable: what it computes, in the forms that suit the target.
            sample: a batch of one.

        Raises:
            CresprError: it cannot be compiled, does not run, or computes something else.
        """
        # Of a model in other forms than those of model.onnx only the artefact is delivered.
        with tempfile.TemporaryDirectory(prefix=".build-", dir=self.folder) as scratch:
            wide = emitted.float32
            if compilable.model is not wide[1]:
                path = Path(scratch) / deliver.MODEL
                save_model(as_declared(compilable.model, self.prepared), path)
                wide = (path, compilable.model)
            return self._run(emitted, wide, compilable.layers, sample)

    def _run(
        self,
        emitted: Emitted,
        wide: tuple[Path, ir.Model],
        layers: tuple[ArtefactLayer, ...],
        sample: deliver.Arrays,
    ) -> Compiled:
        settings = self.settings
        board = find_board(settings.rpc, find_target(settings.target))
        with stage(self.ledger, self.listener, "compile", f"compiling for {settings.target}"):
            if emitted.wide is None:
                built = self._build(wide, layers, sample, board)
            else:
                built = self._build_either(emitted, wide, layers, sample)
        if (tuning := tuning_of(settings)) is not None:
            with stage(self.ledger, self.listener, "kernels", "tuning kernels"):
                built = self._tune(built, sample, tuning)
        if board is not None:
            with stage(self.ledger, self.listener, "remote", f"measuring on {board}"):
                built = self._measure(built, sample, board)
        return built

    def _build(
        self,
        wide: tuple[Path, ir.Model],
        layers: tuple[ArtefactLayer, ...],
        sample: deliver.Arrays,
        board: Board | None,
    ) -> Compiled:
        compiled = deliver.compile_target(*wide, self.prepared, self.settings, self.folder)
        if board is not None:
            compiled = replace(compiled, place=expected_on(board, self.settings.target))
        self._note(compiled, layers)
        if board is None and compiled.place.ran != "nowhere":
            deliver.check_artefact(self.folder, wide[0], sample)
        return Compiled(compiled, wide[0], deliver.ARTEFACT_TOLERANCE, layers)

    def _build_either(
        self,
        emitted: Emitted,
        wide: tuple[Path, ir.Model],
        layers: tuple[ArtefactLayer, ...],
        sample: deliver.Arrays,
    ) -> Compiled:
        """From the number format that is the faster one."""
        narrow = (emitted.path, emitted.model)
        chosen = compile_either(wide, narrow, self.prepared, self.settings, self.folder, sample)
        in_float32 = chosen.number_format == "float32"
        # The narrow model has the forms of model.onnx.
        layers = layers if in_float32 else ()
        self._note(chosen.artefact, layers)
        note_format(self.ledger, artefact=chosen.number_format, artefact_reason=chosen.reason)
        if in_float32:
            return Compiled(chosen.artefact, wide[0], deliver.ARTEFACT_TOLERANCE, layers)
        return Compiled(chosen.artefact, emitted.path, TOLERANCES[chosen.number_format], layers)

    def _tune(
        self,
        built: Compiled,
        sample: deliver.Arrays,
        tuning: Tuning,
    ) -> Compiled:
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
        self.ledger.note(tuning=tuned)
        self._note(artefact, built.layers)
        return replace(built, artefact=artefact)

    def _measure(
        self,
        built: Compiled,
        sample: deliver.Arrays,
        board: Board,
    ) -> Compiled:
        """Runs, checks and times it on a board."""
        remote = measure_on_board(
            board,
            built.artefact,
            built.source,
            self.prepared,
            self.settings,
            sample,
            built.tolerance,
        )
        artefact = replace(built.artefact, place=place_on(board, self.settings.target))
        self._note(artefact, built.layers)
        return replace(built, artefact=artefact, remote=remote)

    def _note(self, artefact: Artefact, layers: tuple[ArtefactLayer, ...]) -> None:
        self.ledger.note(artefact=replace(measure.artefact_record(artefact), layers=layers))


@contextmanager
def stage(ledger: Ledger, listener: Listener, name: str, told: str) -> Iterator[None]:
    """Tells what is being done, and adds the time that it takes to the record."""
    with ledger.clock(name):
        listener(Progress(told))
        yield


def note_format(ledger: Ledger, **found: Any) -> None:  # noqa: ANN401
    """Adds to what is known of the narrow model."""
    formats = ledger.report.number_format
    assert formats is not None
    ledger.note(number_format=replace(formats, **found))
