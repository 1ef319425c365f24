"""Which of several processes this is, when a launcher started more than one for the same run.

`accelerate launch` and `torchrun` say it by these variables; PyTorch reads the same ones. Nothing
heavy is imported here: the command line asks before it shows anything.
"""

import os
import time

GRACE_S = 30.0
"""How long a process that has failed leaves the main one to fail likewise."""


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


def give_way() -> None:
    """To be called before a process ends with an error: the main one must say it first.

    A launcher ends all processes as soon as one ends with an error. If this one is still there
    after a while, the error was its own.
    """
    if not is_main():
        time.sleep(GRACE_S)


def on_this_machine() -> int:
    """How many of them share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if count() > 1 else 1
