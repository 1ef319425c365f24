"""`crespr-onnx verify`: whether two models compute the same."""

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import click

from crespr_onnx.commands.parameters import (
    debug_option,
    file_name,
    input_shape_option,
    json_option,
    print_json,
)
from crespr_onnx.errors import UsageError, VerificationError

HELP = """Compare the interfaces of two models, and their outputs in ONNX Runtime.

A is the reference, B must agree with it: the same names, types, shapes and opset, and outputs that
differ by no more than ATOL + RTOL times the largest magnitude in the reference's output. Ends with
exit code 7 if it does not.

\b
Examples:
  crespr-onnx verify dense.onnx exported.onnx
  crespr-onnx verify a.onnx b.onnx --rtol 1e-3 --cases 10 --json
  crespr-onnx verify a.onnx b.onnx --input-shape tokens:1x128
"""


@click.command(help=HELP, short_help="Whether two models compute the same.")
@click.argument("reference", metavar="A.onnx", type=file_name)
@click.argument("other", metavar="B.onnx", type=file_name)
@click.option("--rtol", type=float, default=1e-4, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=float, default=1e-5, show_default=True, help="Absolute tolerance.")
@click.option("--cases", type=int, default=3, show_default=True, help="Random inputs to try.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the inputs.")
@input_shape_option
@json_option
@debug_option
def verify(reference: str, other: str, as_json: bool, **options: Any) -> int:  # noqa: ANN401
    """Prints how far two models are apart."""
    options["input_shapes"] = dict(options.pop("input_shape"))
    _check(**options)
    from crespr_onnx.graph.verify import verify as compare

    try:
        result = compare(Path(reference), Path(other), **options)
    except VerificationError as error:  # they cannot even be compared
        if as_json:
            print_json({"passed": False, "reason": str(error)})
        raise
    try:
        result.require()
        reason = None
    except VerificationError as error:
        reason = error
    if as_json:
        numbers = {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in asdict(result).items()
        }
        print_json({**numbers, "reason": reason and str(reason)})
    if reason is not None:
        raise reason
    if not as_json:
        click.echo(
            f"equal: {result.cases} cases, largest difference {result.max_abs_diff:.3g} absolute, "
            f"{result.max_rel_diff:.3g} relative"
        )
    return 0


def _check(rtol: float, atol: float, cases: int, seed: int, **_: object) -> None:
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not (isfinite(value) and value >= 0):
            raise UsageError(f"--{name} is {value}; it must be 0 or more")
    if cases < 1:
        raise UsageError(f"--cases is {cases}; it must be at least 1")
    if seed < 0:
        raise UsageError(f"--seed is {seed}; it must be 0 or more")
