"""`crespr-onnx targets`: the machines that a model can be made for."""

import click

from crespr_onnx.commands.parameters import debug_option, json_option, print_json

HELP = """List the values of --target.

\b
Examples:
  crespr-onnx targets
  crespr-onnx targets --json
"""


@click.command(help=HELP)
@json_option
@debug_option
def targets(as_json: bool) -> int:
    """Prints all targets."""
    from crespr_onnx.targets import TARGETS

    if as_json:
        presets = (
            {"name": t.name, "description": t.description, "compiles": t.compiles}
            for t in TARGETS.values()
        )
        print_json({"targets": list(presets)})
        return 0
    width = max(map(len, TARGETS))
    for target in TARGETS.values():
        click.echo(f"{target.name:<{width}}  {target.description}")
    return 0
