"""Where what is expensive to find out is kept for later runs: the user's cache folder."""

import os
from pathlib import Path

VARIABLE = "CRESPR_CACHE"
"""Environment variable that names another folder."""


def cache_folder() -> Path:
    """The folder, as in the XDG base directory specification; it need not exist."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crespr-onnx"
