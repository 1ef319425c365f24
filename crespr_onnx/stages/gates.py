"""Whether what came out is good enough to go on with."""

from math import floor

from crespr_onnx.errors import AccuracyGateError, CresprError, SpeedGateError
from crespr_onnx.record import Latency, Report
from crespr_onnx.settings import CompressSettings

ROUNDING = 1e-9
"""0.9 - 0.85 is more than 0.05 in binary fractions, and yet no more than five points."""


def check_gates(settings: CompressSettings, report: Report) -> list[CresprError]:
    """All gates that a finished run fails, the accuracy gate first."""
    ratio, metric, latency = report.ratio, report.metric, report.latency_ms
    failures: list[CresprError] = []
    # Said this way round, a metric that is not a number fails.
    if metric is not None and not metric.drop <= settings.max_drop + ROUNDING:
        failures.append(
            AccuracyGateError(
                f"{metric.name} fell by {metric.drop:.4f}, from {metric.dense:.4f} to "
                f"{metric.compressed:.4f}; --max-drop allows {settings.max_drop:g}: "
                "train longer (--epochs) or lower --ratio"
            )
        )
    if ratio is not None and ratio.physical < ratio.requested - ROUNDING:
        reached = floor(ratio.physical * 1e4) / 1e4
        failures.append(
            SpeedGateError(
                f"the emitted model has a physical ratio of {reached:.4f}; "
                f"--ratio asks for {ratio.requested:g}"
            )
        )
    if ratio is not None and ratio.mac_requested is not None:
        failures += _too_much_work(ratio.mac_ratio, ratio.mac_requested)
    if latency is not None and (fastest := speed_up(latency)) < settings.min_speedup:
        what = (
            f"the compressed model is {fastest:.2f} times as fast as the dense one in ONNX Runtime"
        )
        if (remote := latency.remote) is not None:
            what = (
                f"on {remote.device} the compressed artefact is {fastest:.2f} times as fast as the "
                "dense one, both compiled by TVM"
            )
        failures.append(SpeedGateError(f"{what}; --min-speedup asks for {settings.min_speedup:g}"))
    return failures


def _too_much_work(saved: float, requested: float) -> list[CresprError]:
    if saved >= requested - ROUNDING:
        return []
    return [
        SpeedGateError(
            f"the emitted model saves {floor(saved * 1e4) / 1e4:.4f} of the multiply-accumulates; "
            f"--mac-ratio asks for {requested:g}"
        )
    ]


def speed_up(latency: Latency) -> float:
    """Dense time in ONNX Runtime over the best time of what is delivered.

    Where another machine was measured, both are times of compiled models there.
    """
    if latency.remote is not None:
        return latency.remote.dense_tvm / max(latency.remote.compressed_tvm, 1e-9)
    delivered = [latency.compressed_onnxruntime]
    if latency.compressed_tvm is not None:
        delivered.append(latency.compressed_tvm)
    return latency.dense_onnxruntime / max(min(delivered), 1e-9)


def remarks(report: Report) -> list[str]:
    """What a user must hear although no gate failed."""
    artefact, latency = report.artefact, report.latency_ms
    said = _about_number_format(report)
    if artefact is not None and artefact.remark:
        said.append(artefact.remark)
    tvm = None if latency is None else latency.compressed_tvm
    if latency is None or tvm is None or tvm <= latency.compressed_onnxruntime:
        return said
    return [
        *said,
        f"the compiled artefact is {tvm / latency.compressed_onnxruntime:.1f} times slower than "
        "ONNX Runtime on model.onnx; deploy model.onnx where you can choose",
    ]


def _about_number_format(report: Report) -> list[str]:
    """Where narrower numbers do not bring what they are for, with the figures."""
    narrow, ratio, latency = report.number_format, report.ratio, report.latency_ms
    if narrow is None:
        return []
    said = []
    before, after = narrow.latency_float32_ms, latency and latency.compressed_onnxruntime
    if before and after and after > before:
        said.append(
            f"in ONNX Runtime on this machine the {narrow.name} model takes "
            f"{after / before:.2f} times as long as in float32"
        )
    size = narrow.bytes_float32
    if size and ratio is not None and ratio.bytes_after >= size:
        said.append(
            f"the {narrow.name} model takes {ratio.bytes_after / size:.2f} times the bytes of its "
            "float32 form: what the format adds outweighs what the weights save"
        )
    if narrow.artefact == "float32":
        said.append(f"the compiled artefact computes in float32: {narrow.artefact_reason}")
    kept = sum(layer.format == "float32" for layer in narrow.layers)
    if kept:
        said.append(f"{kept} of {len(narrow.layers)} layers stayed in float32")
    return said
