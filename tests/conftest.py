"""Fixtures that tests of all rooms share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crespr_onnx import cli


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What runs keep for later ones goes to a folder of this session, not to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRESPR_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def few_steps_restrict() -> Iterator[None]:
    """Lets short runs have a restriction, which would otherwise have too few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crespr_onnx.stages.train.LEAST_STEPS", 1)
        yield


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        return (code, *capsys.readouterr())

    return run
