"""Functions of the user's own that are named as module:function."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crespr_onnx.errors import CresprError

SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_function_spec(text: str) -> bool:
    """Whether a text has the form module:function."""
    return SPEC.fullmatch(text) is not None


def import_function(spec: str, error: type[CresprError]) -> Callable[..., Any]:
    """The function of a name module:function; modules of the current folder can be imported.

    Raises:
        CresprError: of the type given, if there is no such function.
    """
    module_name, _, function_name = spec.partition(":")
    with current_folder_first():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as missing:
            raise error(
                f"{spec}: no module named {missing.name!r}; run in the folder that holds it, or "
                "install it"
            ) from missing
        except Exception as reason:
            raise failed(spec, "importing it", reason, error) from reason
    function = getattr(module, function_name, None)
    if not callable(function):
        raise error(f"{spec}: the module has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def failed(spec: str, doing: str, reason: Exception, error: type[CresprError]) -> CresprError:
    """What a user's function raised, as an error of one line."""
    text = (str(reason).splitlines() or [""])[0][:200]
    return error(f"{spec}: {doing} failed with {type(reason).__name__}: {text}")


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Within this context modules of the current folder can be imported, before all others."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
