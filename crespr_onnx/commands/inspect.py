"""`crespr-onnx inspect`: what can be compressed in a model, and what stays dense and why."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crespr_onnx.commands.parameters import debug_option, file_name, json_option, print_json
from crespr_onnx.terminal import make_console, make_table, printable

if TYPE_CHECKING:
    from rich.table import Table

    from crespr_onnx.inspection import Inspection

HELP = """Show what can be compressed in a model, and what stays dense and why.

Layers can be split into clusters, only shrink, or stay dense; groups are channels that share one
order and are clustered, dropped or kept together. The shares of weights and MACs that can go are
the highest that --ratio and --mac-ratio can be.

\b
Examples:
  crespr-onnx inspect in.onnx
  crespr-onnx inspect in.onnx --json
"""


@click.command(help=HELP, short_help="What can be compressed, and what not and why.")
@click.argument("model", metavar="IN.onnx", type=file_name)
@json_option
@debug_option
def inspect(model: str, as_json: bool) -> int:
    """Prints what `inspect_model` found."""
    from crespr_onnx.inspection import inspect_model

    found = inspect_model(Path(model))
    if as_json:
        print_json(found.to_dict())
        return 0
    console = make_console(sys.stdout)
    for line in _summary(found):
        console.print(printable(line), soft_wrap=True)
    for table in (_layers(found), _groups(found)):
        if table.row_count:
            console.print()
            console.print(table)
    if found.obstacles:
        console.print("\nnot understood, so that their neighbours stay dense:")
    for obstacle in found.obstacles:
        line = f"  {obstacle.op} '{obstacle.node}': {obstacle.reason}"
        console.print(printable(line), soft_wrap=True)
    return 0


def _summary(found: "Inspection") -> list[str]:
    from crespr_onnx.report import format_bytes

    macs = "an unknown number of" if found.macs is None else f"{found.macs:,}"
    operators = ", ".join(f"{name} {count}" for name, count in found.operators.items())
    work = ""
    if found.max_mac_ratio is not None:
        work = f" and {_shown(found.max_mac_ratio)} of the MACs"
    reach = (
        f"at most {_shown(found.max_ratio)} of the weights{work} can go; "
        f"layers can be split into at most {found.max_clusters} clusters"
        if found.max_ratio > 0
        else "nothing in it can be compressed"
    )
    return [
        f"{found.path}: {format_bytes(found.bytes)}, opset {found.opset}",
        f"inputs: {', '.join(found.inputs)}",
        f"outputs: {', '.join(found.outputs)}",
        f"operators: {operators}",
        f"{found.weights:,} weights in {len(found.layers)} layers, {macs} MACs per sample",
        reach,
    ]


def _shown(reach: float) -> str:
    """Rounded down: what is shown can be asked for."""
    return f"{math.floor(reach * 1e4) / 1e4:.4f}"


def _layers(found: "Inspection") -> "Table":
    numbers = ("weights", "share", "MACs")
    table = make_table("layer", "op", "size", *numbers, "what can be done", numbers=numbers)
    for layer in found.layers:
        kernel = f" x{layer.kernel}" if layer.kernel > 1 else ""
        what = {
            "split": f"split, up to {layer.max_clusters} clusters",
            "shrink": f"shrink only: {layer.reason}",
            "dense": f"stays dense: {layer.reason}",
        }[layer.verdict]
        table.add_row(
            printable(layer.name),
            layer.op,
            f"{layer.inputs} -> {layer.outputs}{kernel}",
            f"{layer.weights:,}",
            f"{layer.weights / max(found.weights, 1):.1%}",
            "?" if layer.macs is None else f"{layer.macs:,}",
            printable(what),
        )
    return table


def _groups(found: "Inspection") -> "Table":
    table = make_table("channel group", "channels", "what can be done", numbers=("channels",))
    for group in found.groups:
        what = {
            "cluster": f"cluster (up to {group.max_clusters}) or drop",
            "drop": f"drop: {group.reason}",
            "keep": f"keep: {group.reason}",
        }[group.verdict]
        table.add_row(printable(group.name), str(group.channels), printable(what))
    return table
