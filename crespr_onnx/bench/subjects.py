"""From the arguments to the models that are compared with one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crespr_onnx.bench.folder import ResultFolder, read_folder
from crespr_onnx.bench.settings import BenchSettings
from crespr_onnx.errors import ModelError, UsageError
from crespr_onnx.graph.load import LoadedModel, load_model
from crespr_onnx.graph.signature import ModelSignature, TensorSpec
from crespr_onnx.targets.target import Target

MODELS = "given models"
"""What the models that are given by themselves are called together."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """A model, and what its rows call it."""

    name: str
    loaded: LoadedModel


@dataclass(frozen=True, eq=False)
class Subject:
    """Models with the same inputs that are compared with one another.

    Attributes:
        name: the folder, or `MODELS`.
        contestants: the reference first.
        folder: where the artefact of the second contestant is, if one can be timed.
        target: what that is compiled for.
        input_shapes: shape of inputs with dynamic axes besides the batch.
        notes: what the reader must know.
    """

    name: str
    contestants: tuple[Contestant, ...]
    folder: Path | None = None
    target: Target | None = None
    input_shapes: Mapping[str, tuple[int, ...]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def signature(self) -> ModelSignature:
        """Of the reference."""
        return self.contestants[0].loaded.signature

    def only_batch(self) -> int | None:
        """The one batch size that a contestant is fixed to, or None if all take any.

        Raises:
            UsageError: two of them are fixed to different ones.
        """
        fixed = {
            spec.dims[0]
            for contestant in self.contestants
            if not any(s.dynamic_batch for s in contestant.loaded.signature.inputs)
            for spec in contestant.loaded.signature.inputs[:1]
            if spec.dims and isinstance(spec.dims[0], int)
        }
        if len(fixed) > 1:
            sizes = " and ".join(map(str, sorted(fixed)))
            raise UsageError(f"{self.name}: the models take batches of {sizes}; bench them apart")
        return fixed.pop() if fixed else None


def read_subjects(settings: BenchSettings) -> list[Subject]:
    """Reads everything that is to be timed; a subject for every folder, one for all models.

    Raises:
        UsageError: a folder is not one of results, or models take different inputs.
        ModelError: a model cannot be read, or a folder's dense model is gone or has changed.
    """
    folders = [path for path in settings.paths if path.is_dir()]
    models = [path for path in settings.paths if not path.is_dir()]
    subjects = [_from_folder(read_folder(path), settings) for path in folders]
    if models:
        subjects.append(_from_models(models, settings))
    for subject in subjects:
        _check_inputs(subject)
    names = [subject.name for subject in subjects]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is given twice; give it once")
    return subjects


def _from_folder(folder: ResultFolder, settings: BenchSettings) -> Subject:
    dense = load_model(settings.dense or folder.find_dense())
    notes: list[str] = []
    if dense.sha256 != folder.dense_sha256:
        if settings.dense is None:
            raise ModelError(
                f"{folder.path}: its dense model {dense.path} has changed since it was compressed "
                f"(sha256 {dense.sha256[:12]}, was {folder.dense_sha256[:12]}); give the original "
                "with --dense FILE"
            )
        notes.append(
            f"{folder.path}: {dense.path} is not the model that it was compressed from "
            f"(sha256 {dense.sha256[:12]}, was {folder.dense_sha256[:12]})"
        )
    compressed = load_model(folder.model, quantised=True)
    contestants = Contestant("dense", dense), Contestant("compressed", compressed)
    shapes = {**folder.input_shapes, **settings.input_shapes}
    target, why_not = folder.timed_target(settings.rpc)
    notes += [] if why_not is None else [why_not]
    return Subject(str(folder.path), contestants, folder.path, target, shapes, tuple(notes))


def _from_models(paths: Sequence[Path], settings: BenchSettings) -> Subject:
    stems = [path.stem for path in paths] + (["dense"] if settings.dense else [])
    whole = len(set(stems)) < len(stems)
    contestants = [
        Contestant(str(path) if whole else path.stem, load_model(path, quantised=True))
        for path in paths
    ]
    if settings.dense is not None:
        contestants.insert(0, Contestant("dense", load_model(settings.dense)))
    names = [contestant.name for contestant in contestants]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is given twice; give it once")
    return Subject(MODELS, tuple(contestants), input_shapes=settings.input_shapes)


def _check_inputs(subject: Subject) -> None:
    first, *others = (contestant.loaded for contestant in subject.contestants)
    for other in others:
        ours, theirs = first.signature.inputs, other.signature.inputs
        if len(ours) != len(theirs) or not all(map(_agree, ours, theirs)):
            raise UsageError(
                f"{other.path} takes {_inputs(other)}, but {first.path} takes {_inputs(first)}; "
                "only models with the same inputs can be compared: bench them apart"
            )


def _agree(a: TensorSpec, b: TensorSpec) -> bool:
    """Whether an array can fit both; a free dimension fits a fixed one."""
    if (a.name, a.dtype) != (b.name, b.dtype):
        return False
    if a.dims is None or b.dims is None:
        return True
    fits = (
        x == y or not (isinstance(x, int) and isinstance(y, int))
        for x, y in zip(a.dims, b.dims, strict=False)
    )
    return len(a.dims) == len(b.dims) and all(fits)


def _inputs(model: LoadedModel) -> str:
    return ", ".join(map(str, model.signature.inputs))
