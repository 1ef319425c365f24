"""What every method of the comparison is given, and what it gives back."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir
from bench_models import BenchModel

from crespr_onnx.data import Samples, load_data
from crespr_onnx.graph.signature import signature_of
from crespr_onnx.progress import silent
from crespr_onnx.settings import CompressSettings
from crespr_onnx.stages.answers import answers_of
from crespr_onnx.stages.prepare import Prepared, prepare_model
from crespr_onnx.stages.train import make_lesson
from crespr_onnx.training.lesson import Lesson

THREADS = 1


@dataclass(frozen=True)
class Outcome:
    """What a method reached.

    Attributes:
        accuracy: share of right answers on the evaluation data.
        weights: weights that are stored; of a masked model those that are not masked.
    """

    accuracy: float
    weights: int


class Method(Protocol):
    """One way to get a model down to a share of its weights."""

    @property
    def trains(self) -> bool:
        """Whether it spends the epochs of the task, or none."""
        ...

    def run(self, task: "Task", ratio: float, seed: int) -> Outcome:
        """Prunes the model of a task.

        Args:
            task: model, data and effort.
            ratio: share of the weights that goes.
            seed: of everything random.

        Raises:
            CresprError: if the method cannot reach the ratio, saying why.
        """
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """A trained model, its data, and the effort that each method may spend.

    Attributes:
        prepared: the model, its constants folded, and its channels.
        train: samples to train on.
        evaluation: samples that the accuracy is measured on, with labels.
        epochs: passes over the training data, at most.
        batch_size: samples per step.
        train_file: the training samples as a file that `compress` reads.
        eval_file: the same of the evaluation samples.
    """

    prepared: Prepared
    train: Samples
    evaluation: Samples
    epochs: int
    batch_size: int
    train_file: Path
    eval_file: Path

    @property
    def dense(self) -> ir.Model:
        """The model as it is: the start of every method, and the teacher."""
        return self.prepared.model

    @cached_property
    def lesson(self) -> Lesson:
        """Data, the dense model's answers and the loss: the same as in `compress`."""
        lesson = make_lesson(self.dense, self.train, self.settings(0.5, 0), silent)
        assert lesson is not None
        return lesson

    @cached_property
    def dense_accuracy(self) -> float:
        """That of the dense model."""
        return self.accuracy(self.dense)

    def settings(
        self, ratio: float, seed: int, *, epochs: int | None = None, output: Path | None = None
    ) -> CompressSettings:
        """The settings of `compress`, its defaults where the task says nothing."""
        return CompressSettings(
            model=self.prepared.loaded.path,
            ratio=ratio,
            target="onnx",
            data=str(self.train_file),
            eval_data=str(self.eval_file),
            output=output,
            epochs=self.epochs if epochs is None else epochs,
            batch_size=self.batch_size,
            max_drop=1.0,
            min_speedup=0.0,
            threads=THREADS,
            seed=seed,
        )

    def budget(self, ratio: float) -> int:
        """Weights that may stay."""
        return int((1.0 - ratio) * self.prepared.graph.weights + 1e-9)

    def accuracy(self, model: ir.Model) -> float:
        """Share of right answers of a model, in ONNX Runtime."""
        answers = answers_of(model, self.evaluation, THREADS)[0]
        assert answers is not None
        return float(np.mean(answers.argmax(axis=1) == self.evaluation.labels))


@contextmanager
def open_task(
    bench: BenchModel, files: tuple[Path, Path, Path], epochs: int, samples: int | None
) -> Iterator[Task]:
    """Reads a model and its data.

    Args:
        bench: how the data is read.
        files: the model, the training data and the evaluation data.
        epochs: passes over the training data.
        samples: how many training samples to take, at random but always the same; None for all.
    """
    model, *sources = files
    prepared = prepare_model(model)
    signature = signature_of(prepared.model)
    train, evaluation = (load_data(source, signature, images=bench.images) for source in sources)
    if samples is not None and samples < len(train):
        chosen = np.random.default_rng(0).permutation(len(train))[:samples]
        train, sources[0] = train.subset(np.sort(chosen)), Path()
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            source if source.suffix == ".npz" else _save(part, Path(folder) / f"{name}.npz")
            for name, source, part in zip(("train", "eval"), sources, (train, evaluation),
                                          strict=True)
        ]  # fmt: skip
        yield Task(prepared, train, evaluation, epochs, bench.batch_size, paths[0], paths[1])


def _save(samples: Samples, path: Path) -> Path:
    """Writes samples as the model reads them, so that images are decoded once."""
    assert samples.labels is not None
    np.savez(path, allow_pickle=False, labels=samples.labels, **samples.batch(slice(None)))
    return path
