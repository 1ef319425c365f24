"""How `compress` shows what came out, or what would come out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crespr_onnx.commands.parameters import print_json
from crespr_onnx.terminal import make_console, make_table, print_error, printable

if TYPE_CHECKING:
    from crespr_onnx.pipeline import Plan
    from crespr_onnx.record import Report


def show_report(report: "Report", folder: Path, as_json: bool) -> None:
    """The before/after table, why the run failed if it did, and where the results are."""
    from crespr_onnx.report import render_table

    if as_json:
        print_json(report.to_dict())
    else:
        render_table(report, make_console(sys.stdout))
        click.echo()
    for reason in report.reasons:
        if report.exit_code:
            print_error(reason)
        elif not as_json:
            click.echo(f"note: {printable(reason)}")
    if not as_json:
        click.echo(f"results: {printable(str(folder))}")


def show_plan(plan: "Plan", as_json: bool) -> None:
    """The layout that was chosen; as JSON it is a report that got no further."""
    from crespr_onnx.record import Report

    if as_json:
        print_json(Report("ok", 0, ratio=plan.ratio, layers=plan.layers).to_dict())
        return
    numbers = ("weights", "after", "clusters")
    table = make_table("layer", "op", *numbers, "form", "reason", numbers=numbers)
    for layer in plan.layers:
        table.add_row(
            printable(layer.name),
            layer.op,
            f"{layer.weights_before:,}",
            f"{layer.weights_after:,}",
            str(layer.clusters),
            layer.form,
            printable(layer.reason),
        )
    make_console(sys.stdout).print(table)
    ratio = plan.ratio
    click.echo(
        f"\n{ratio.weights_before:,} weights would become {ratio.weights_after:,}: physical ratio "
        f"{ratio.physical:.4f}, {ratio.requested:g} requested."
    )
    if ratio.mac_requested is not None:
        click.echo(
            f"{ratio.macs_before:,} multiply-accumulates would become {ratio.macs_after:,}: "
            f"{ratio.mac_ratio:.4f} saved, {ratio.mac_requested:g} requested."
        )
    click.echo("Nothing was written.")
