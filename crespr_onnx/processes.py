"""Which of several processes this is, when a launcher started more than one for the same run.

`accelerate launch` and `torchrun` say it by these variables; PyTorch reads the same ones. Nothing
heavy is imported here: the command line asks before it shows anything.
"""

import os


def count() -> int:
    """How many processes work on this run; 1 without a launcher."""
    launched = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if launched else 1


def index() -> int:
    """Number of this process among them, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes, prints and measures for all."""
    return index() == 0


def on_this_machine() -> int:
    """How many of them share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if count() > 1 else 1
