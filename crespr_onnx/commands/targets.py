"""`crespr-onnx targets`: the machines that a model can be made for."""

from contextlib import suppress
from textwrap import fill

import click

from crespr_onnx.commands.parameters import debug_option, json_option, print_json

HELP = """List the values of --target.

\b
Examples:
  crespr-onnx targets
  crespr-onnx targets --json
  crespr-onnx targets --fetch arm64
"""


@click.command(help=HELP)
@click.option(
    "--fetch",
    metavar="TARGET",
    help="Download TVM's runtime for its boards into the user's cache (100 MB).",
)
@json_option
@debug_option
def targets(fetch: str | None, as_json: bool) -> int:
    """Prints all targets, or gets what one of them needs."""
    from crespr_onnx.targets import TARGETS

    if fetch is not None:
        return _fetch(fetch, as_json)
    if as_json:
        presets = (
            {"name": t.name, "description": t.description, "compiles": t.compiles,
             "cores": list(t.cores)}
            for t in TARGETS.values()
        )  # fmt: skip
        print_json({"targets": list(presets)})
        return 0
    width = max(map(len, TARGETS))
    for target in TARGETS.values():
        click.echo(f"{target.name:<{width}}  {target.description}")
        if target.cores:
            variant = target.variant.upper()
            cores = f"{target.name}:{variant} for one of {', '.join(target.cores)}"
            click.echo(
                fill(
                    cores,
                    100,
                    initial_indent=" " * (width + 2),
                    subsequent_indent=" " * (width + 4),
                    break_on_hyphens=False,
                )
            )
    return 0


def _fetch(name: str, as_json: bool) -> int:
    from crespr_onnx.errors import CompileError, UsageError
    from crespr_onnx.report import format_bytes
    from crespr_onnx.targets import find_target
    from crespr_onnx.targets.board_runtime import fetch_runtime, runtime_folder
    from crespr_onnx.targets.emulate import keep_runner

    target = find_target(name)
    if target.system is None or not target.system.wheels:
        raise UsageError(f"target {name!r} needs no runtime of TVM's for a board")
    files = {file: path.stat().st_size for file, path in fetch_runtime(target.system).items()}
    with suppress(CompileError):  # without a compiler for it nothing is emulated here
        keep_runner(target.system)
    folder = runtime_folder(target.system)
    if as_json:
        print_json({"folder": str(folder), "files": files})
    else:
        click.echo(f"{folder}: " + ", ".join(f"{n} {format_bytes(b)}" for n, b in files.items()))
    return 0
