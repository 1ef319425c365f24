"""`crespr-onnx bench`: how fast models are, beside one another and the machine's limits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crespr_onnx.commands.bench_results import show_bench
from crespr_onnx.commands.parameters import (
    Session,
    debug_option,
    file_name,
    input_shape_option,
    json_option,
)
from crespr_onnx.errors import UsageError
from crespr_onnx.terminal import stage_display

if TYPE_CHECKING:
    from crespr_onnx.bench.settings import BenchSettings

HELP = """Time models side by side, dense and compressed, in ONNX Runtime and compiled.

A DIR is a folder that compress wrote: its dense model and its model.onnx are timed, and its
compiled artefact beside the dense model compiled the same way; for other batches and threads than
it was compiled for, the artefact is compiled again into a temporary folder. MODELs are ONNX files
with the same inputs; the first one, or --dense, is what the others are compared with.

With --rpc the artefact is timed on that machine, beside the dense model compiled for it, which it
is then compared with, for every number of threads but 0.

On one thread the engines take turns in one process; on several each has processes of its own. The
floor is the least time that a model's multiply-accumulates, or its weights, inputs and outputs,
take at the peak that this machine is measured to have. It is a bound for the graph as it is
written, not one that every graph can reach.

\b
Examples:
  crespr-onnx bench compressed-in
  crespr-onnx bench compressed-in --batch 1 --threads 1 --min-speedup 4
  crespr-onnx bench compressed-in --threads 1 --rpc 192.168.1.7:9090
  crespr-onnx bench dense.onnx pruned.onnx --input-shape tokens:1x128
  crespr-onnx bench a/ b/ --data test.npz --plot speed.svg -o speed.json
"""


@click.command(help=HELP, short_help="How fast models are, side by side.")
@click.argument("paths", metavar="DIR|MODEL...", type=file_name, nargs=-1, required=True)
@click.option(
    "--dense",
    type=file_name,
    metavar="FILE.onnx",
    help="What all are compared with, instead of the model that a DIR names.",
)
@click.option(
    "--data",
    type=file_name,
    metavar="DATA",
    help="Inputs to time on, an .npz file as for compress; random numbers without.",
)
@click.option(
    "--batch",
    type=int,
    multiple=True,
    default=(1, 8),
    show_default=True,
    help="Samples per call. May be repeated.",
)
@click.option(
    "--threads",
    type=int,
    multiple=True,
    default=(1, 0),
    show_default=True,
    help="Threads of each engine, 0 for all. May be repeated.",
)
@click.option(
    "--repeats",
    type=int,
    default=21,
    show_default=True,
    help="Turns that each engine takes; medians and quartiles are over these.",
)
@click.option(
    "--min-speedup",
    type=float,
    metavar="X",
    help="Exit with 6 if a model, in its best engine, is not X times as fast as dense in ONNX "
    "Runtime, or with --rpc as dense compiled, at batch 1 on one thread.",
)
@click.option(
    "--rpc",
    metavar="HOST:PORT[/KEY]",
    help="Time compiled models on this TVM RPC server, or device of a tracker, instead of here.",
)
@click.option("--plot", type=file_name, metavar="FILE.svg", help="Bars as .png, .svg or .pdf.")
@click.option("-o", "--output", type=file_name, metavar="FILE.json", help="JSON into a file.")
@input_shape_option
@json_option
@click.option("--quiet", is_flag=True, help="Nothing but errors on stderr.")
@debug_option
@click.pass_obj
def bench(
    session: Session,
    /,
    plot: str | None,
    output: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> int:
    """Measures, writes what was asked for and prints the table."""
    settings = _settings(options)
    settings.check()
    if output is not None and not Path(output).parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {Path(output).parent}; make it first")
    from crespr_onnx.bench.plot import check_plot, draw
    from crespr_onnx.files import write_atomic

    if plot is not None:
        check_plot(Path(plot))
    with stage_display(quiet) as listener:
        from crespr_onnx.bench import run

        report = run.bench(settings, listener, session.command)
        if output is not None:
            document = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
            write_atomic(Path(output), document + "\n")
        if plot is not None:
            draw(report, Path(plot))
    show_bench(report, as_json)
    return report.exit_code


def _settings(options: dict[str, Any]) -> "BenchSettings":
    from crespr_onnx.bench.settings import BenchSettings

    dense = options["dense"]
    return BenchSettings(
        paths=tuple(map(Path, options["paths"])),
        dense=None if dense is None else Path(dense),
        data=options["data"],
        input_shapes=dict(options["input_shape"]),
        batches=options["batch"],
        threads=options["threads"],
        repeats=options["repeats"],
        rpc=options["rpc"],
        min_speedup=options["min_speedup"],
    )
