"""Where things are kept for later runs."""

from pathlib import Path

import pytest

from crespr_onnx.cache_folder import cache_folder


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"CRESPR_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/crespr-onnx"),
        ({"XDG_CACHE_HOME": ""}, "/home/u/.cache/crespr-onnx"),
    ],
)
def test_the_folder(monkeypatch, variables, folder):
    for name in ("CRESPR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)
