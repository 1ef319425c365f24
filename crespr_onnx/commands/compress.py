"""`crespr-onnx compress`: the main job."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from crespr_onnx import processes
from crespr_onnx.commands.compress_options import settings_from, settings_options
from crespr_onnx.commands.parameters import Session, debug_option, file_name, json_option
from crespr_onnx.commands.results import show_plan, show_report
from crespr_onnx.progress import Progress
from crespr_onnx.terminal import stage_display

HELP = """Compress a model until a share R of its weights is physically gone.

DATA is an .npz file with an array per model input, named like it, and optionally an array `labels`;
or a folder with a folder of images for each class; or module:function, which returns an iterable of
(dict of inputs, labels or None). Without labels the input model is the teacher.

The function of --loss is called with the outputs of the model (a tensor, or a tuple of several) and
a batch, which has inputs, targets (what IN.onnx answers, per output) and labels (or None); it
returns the mean loss as a scalar tensor.

Several GPUs or machines: accelerate launch -m crespr_onnx compress ... trains on all of them; each
takes its part of every batch.

\b
Examples:
  crespr-onnx compress in.onnx --ratio 0.98 --target cpu --data train.npz
  crespr-onnx compress in.onnx --ratio 0.9 --data train/ --eval-data test/ \\
      --image-mean .485,.456,.406 --image-std .229,.224,.225
  crespr-onnx compress in.onnx --ratio 0.5 --epochs 0
  crespr-onnx compress in.onnx --ratio 0.98 --mac-ratio 0.95 --target cpu --data train.npz
  crespr-onnx compress in.onnx --ratio 0.98 --target arm64 --data train.npz --rpc 192.168.1.7:9090
  crespr-onnx compress in.onnx --ratio 0.98 --target cpu --data train.npz --tune 32
  crespr-onnx compress in.onnx --ratio 0.98 --data train.npz --dry-run
  crespr-onnx compress --config compressed-in/config.toml -o again
"""


class ConfiguredCommand(click.Command):
    """A command that says so when a wrong value came from the config file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the command line over what the config file says."""
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            name = error.param.name if error.param else None
            if name and ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
                raise click.BadParameter(
                    f"{error.message} (in the file given by --config)", ctx, error.param
                ) from error
            raise


def _use_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        from crespr_onnx.config import read_config

        ctx.default_map = read_config(Path(value))


@click.command(cls=ConfiguredCommand, help=HELP, short_help="Compress a model, and prove it.")
@click.argument("model", metavar="IN.onnx", type=file_name)
@settings_options
@click.option(
    "--config",
    type=file_name,
    metavar="FILE.toml",
    is_eager=True,
    expose_value=False,
    callback=_use_config,
    help="Options by name; those on the command line win.",
)
@click.option("--dry-run", is_flag=True, help="Check all and choose the layout; write nothing.")
@json_option
@click.option("--quiet", is_flag=True, help="Nothing but errors on stderr.")
@debug_option
@click.pass_obj
def compress(
    session: Session,
    /,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> int:
    """Runs the pipeline, or makes its plan only, and shows what came out."""
    from crespr_onnx.settings_check import check_settings
    from crespr_onnx.targets import find_target
    from crespr_onnx.targets.remote import find_board
    from crespr_onnx.targets.tuning.request import find_tuning

    settings = settings_from(options)
    check_settings(settings)
    target = find_target(settings.target)
    board = find_board(settings.rpc, target)
    find_tuning(settings.tune, settings.tuning_records, Path(), settings.seed, target, board)
    try:
        with stage_display(quiet or not processes.is_main()) as listener:
            listener(Progress("importing PyTorch"))
            from crespr_onnx import pipeline

            if dry_run:
                plan = pipeline.plan(settings, listener)
            else:
                report = pipeline.compress(settings, listener, session.command)
    except KeyboardInterrupt as interrupt:
        hint = [] if dry_run else ["the same command with --resume goes on from here"]
        raise KeyboardInterrupt(*hint) from interrupt
    if dry_run:
        if processes.is_main():
            show_plan(plan, as_json)
        return 0
    if processes.is_main():
        show_report(report, settings.output or Path(f"compressed-{settings.model.stem}"), as_json)
    elif report.exit_code:
        processes.give_way()
    return report.exit_code
