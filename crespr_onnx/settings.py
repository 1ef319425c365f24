"""What a run of `compress` can be told; the command line and the config file are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crespr_onnx.data.normalisation import ImageOptions


@dataclass(frozen=True)
class CompressSettings:
    """Everything that decides the outcome of a run.

    Attributes:
        model: the ONNX model to compress.
        ratio: physical ratio to reach, in (0, 1).
        target: name of the machine to make it for.
        data: training or calibration data: .npz, folder of class folders, or module:function.
        eval_data: the same for the accuracy that is reported; without it a tenth of `data` is held
            out of training.
        output: folder for the results; by default compressed-<name of the model>.
        images: preprocessing, for a folder of images.
        criterion: importance criterion.
        clusters: cluster count K, or None to let a short trial choose.
        mac_ratio: share of the multiply-accumulates per sample that must go as well, in (0, 1), or
            None to look at stored weights alone.
        epochs: passes over the data in all, restriction and fine-tuning together.
        batch_size: samples per training step.
        lr: highest learning rate while fine-tuning the small model.
        loss: module:function to minimise instead of the built-in loss: called with the outputs of
            the model and a `training.objective.Batch`, it returns a scalar tensor.
        patience: epochs of fine-tuning without a lower loss on a held-out part of the training
            data after which it stops, or None to train for all epochs on all data.
        precision: of training: "fp32", "bf16", or "auto", which is bf16 on a GPU.
        number_format: of the emitted model: "float32", "float16", or "int8", which is calibrated on
            `data`; inputs and outputs stay as they are.
        max_drop: most that the metric may lose, 0.05 being five points (exit code 5).
        min_speedup: least speed-up over the dense model in ONNX Runtime (exit code 6); with `rpc`
            over the dense model compiled for that machine.
        tune: candidates to measure for every kernel of the artefact; 0 compiles with our own
            schedules.
        tuning_records: file of what tuning found, read and added to; given with `tune` 0 it is
            applied as it is. By default one in the user's cache folder.
        rpc: HOST:PORT of a TVM RPC server, or HOST:PORT/KEY of a tracker, on which the artefact is
            run, checked and timed instead of here.
        form: how clusters are emitted: "grouped" as one operator per layer, "separate" as one per
            cluster, joined to branches, "auto" as what is fastest, layer by layer.
        input_shapes: shape of inputs with dynamic axes besides the batch.
        threads: threads for training; latency is always measured on one.
        seed: of everything random.
        resume: go on with an interrupted run in `output`.
        force: replace the results in `output`.
    """

    model: Path
    ratio: float
    target: str = "onnx"
    data: str | None = None
    eval_data: str | None = None
    output: Path | None = None
    images: ImageOptions | None = None
    criterion: str = "magnitude"
    clusters: int | None = None
    mac_ratio: float | None = None
    epochs: int = 15
    batch_size: int = 128
    lr: float = 1e-2
    loss: str | None = None
    patience: int | None = None
    precision: str = "auto"
    number_format: str = "float32"
    max_drop: float = 0.05
    min_speedup: float = 1.0
    tune: int = 0
    tuning_records: str | None = None
    rpc: str | None = None
    form: str = "auto"
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    threads: int | None = None
    seed: int = 0
    resume: bool = False
    force: bool = False
