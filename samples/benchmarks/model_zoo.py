"""Exports tiny models of many families by both of PyTorch's exporters, at several opsets.

    python samples/benchmarks/model_zoo.py --out zoo
    python samples/benchmarks/model_zoo.py --out zoo --only vit --exporter dynamo --opset 20

Weights are random but fixed; the batch is dynamic. `import_survey.py` looks at what comes out.
"""

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from zoo import detector, plain, residual, sequence, spatial
from zoo.built import BUILT

IMAGE = (3, 16, 16)


@dataclass(frozen=True)
class Family:
    """A model definition.

    Attributes:
        make: makes the model.
        shape: of one input sample.
        tokens: whether the input holds indices instead of numbers.
        keep_norm: whether the TorchScript exporter is told not to fold BatchNorm.
        outputs: names of the outputs.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = IMAGE
    tokens: bool = False
    keep_norm: bool = False
    outputs: tuple[str, ...] = ("output",)


FAMILIES = {
    "mlp": Family(plain.mlp, (20,)),
    "vgg": Family(plain.vgg, keep_norm=True),
    "resnet": Family(residual.resnet),
    "mobilenet": Family(residual.mobilenet),
    "squeeze_excite": Family(residual.squeeze_excite),
    "unet": Family(spatial.UNet),
    "vit": Family(sequence.ViT),
    "lstm_tagger": Family(sequence.LstmTagger, (7,), tokens=True),
    "shuffle_net": Family(spatial.shuffle_net),
    "inception": Family(plain.Inception),
    "densenet": Family(residual.densenet),
    "convnext": Family(residual.convnext),
    "gru": Family(sequence.GruClassifier, (7, 6)),
    "text_encoder": Family(sequence.TextEncoder, (7,), tokens=True),
    "detector": Family(detector.Detector, (3, 32, 32), outputs=("boxes", "scores")),
    "audio": Family(detector.audio, (2, 64)),
}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)
OPSETS = {"dynamo": (13, 17, 18, 20, 23, 26), "torchscript": (13, 17, 18, 20)}
"""The last of each is the newest that it writes, in torch 2.15, and ONNX Runtime 1.31 reads."""


UNAVAILABLE = "unavailable.jsonl"
"""In the output folder: what the exporters themselves could not do, with their reasons."""


class ExporterError(Exception):
    """The exporter cannot do what was asked of it."""


def export(name: str, exporter: str, opset: int, folder: Path) -> Path:
    """Exports a family, with fixed weights and a dynamic batch called "batch".

    Args:
        name: a key of FAMILIES.
        exporter: "dynamo" or "torchscript".
        opset: asked of the exporter.
        folder: where NAME-EXPORTER-OPSET.onnx goes.

    Raises:
        ExporterError: if the exporter fails or writes another opset.
    """
    family = FAMILIES[name]
    torch.manual_seed(0)
    model = seasoned(family.make())
    samples = np.random.default_rng(0)
    shape = (2, *family.shape)
    example = torch.from_numpy(
        samples.integers(0, sequence.VOCABULARY, shape)
        if family.tokens
        else samples.standard_normal(shape).astype(np.float32)
    )
    path = folder / f"{name}-{exporter}-{opset}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    names = {"input_names": ["input"], "output_names": [*family.outputs], "opset_version": opset}
    try:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                batch = torch.export.Dim("batch", min=1, max=4096)
                torch.onnx.export(
                    model, (example,), path, dynamo=True, dynamic_shapes=({0: batch},),
                    external_data=False, verbose=False, **names,
                )  # fmt: skip
            else:
                axes = {name: {0: "batch"} for name in ("input", *family.outputs)}
                mode = torch.onnx.TrainingMode
                torch.onnx.export(
                    model, (example,), path, dynamo=False, dynamic_axes=axes,
                    do_constant_folding=not family.keep_norm,
                    training=mode.PRESERVE if family.keep_norm else mode.EVAL, **names,
                )  # fmt: skip
    except Exception as error:  # exporters raise anything
        raise ExporterError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    fault = fault_of(path, opset)
    if fault:
        path.unlink()
        raise ExporterError(fault)
    return path


def fault_of(path: Path, opset: int) -> str:
    """What the exporter did wrong, if anything."""
    written = next(item.version for item in onnx.load(path).opset_import if item.domain == "")
    if written != opset:
        return f"it writes opset {written} when asked for {opset}"
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        return f"it writes a model that is not valid: {str(error).splitlines()[0]}"
    return ""


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Takes what the exporters print, which the older one does from C++, past Python's streams."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
        for descriptor in (nowhere, *kept):
            os.close(descriptor)


def seasoned(model: nn.Module) -> nn.Module:
    """Gives norms the weights and statistics of a trained model.

    Those of a fresh one do nothing, and the dynamo exporter merges tensors that are equal.
    """
    for module in model.modules():
        if isinstance(module, NORMS):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            if isinstance(module, BATCH_NORMS):
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.normal_(module.running_mean, 0.0, 0.2)
    return model.eval()


def build(name: str, folder: Path) -> Path:
    """Writes a model that is built node by node, as other frameworks' converters leave them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    onnx.save(BUILT[name](), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=[*FAMILIES, *BUILT], action="append")
    parser.add_argument("--exporter", choices=OPSETS, action="append")
    parser.add_argument("--opset", type=int, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only or [*FAMILIES, *BUILT]:
        if name in BUILT:
            print(build(name, arguments.out))
            continue
        for exporter in arguments.exporter or OPSETS:
            for opset in arguments.opset or OPSETS[exporter]:
                try:
                    print(export(name, exporter, opset, arguments.out), flush=True)
                except ExporterError as error:
                    print(f"{name} {exporter} {opset}: {error}", file=sys.stderr, flush=True)
                    line = {"model": f"{name}-{exporter}-{opset}", "exporter": str(error)}
                    with (arguments.out / UNAVAILABLE).open("a") as out:
                        out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
