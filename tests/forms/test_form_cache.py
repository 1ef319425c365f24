"""Times that are kept, and files that are not what they should be."""

import json
from pathlib import Path

import pytest

from crespr_onnx.forms.cache import Cache, user_cache

KEY = {"engine": "some 1.0", "models": "abc"}
NAMES = {"grouped": None, "separate": None}
TIMES = {"grouped": 0.25, "separate": 0.5}


def test_times_are_found_by_all_of_their_key(tmp_path: Path):
    cache = Cache(tmp_path / "made" / "later")
    assert cache.find(KEY, NAMES) is None
    cache.keep(KEY, TIMES)
    assert cache.find(KEY, NAMES) == TIMES
    for name in KEY:
        assert cache.find({**KEY, name: "other"}, NAMES) is None
    (file,) = cache.folder.iterdir()
    assert json.loads(file.read_text()) == {"key": {"schema": "1", **KEY}, "milliseconds": TIMES}


def test_what_could_not_be_run_has_no_time(tmp_path: Path):
    cache = Cache(tmp_path)
    cache.keep(KEY, {"grouped": 0.25})
    assert cache.find(KEY, NAMES) == {"grouped": 0.25}
    assert cache.find(KEY, {"dense": None}) is None


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "not json", '{"key": 1, "milliseconds": {"grouped": 1}}',
        '{"key": KEY, "milliseconds": {"grouped": 0}}',
        '{"key": KEY, "milliseconds": {"grouped": NaN}}',
        '{"key": KEY, "milliseconds": {"grouped": "fast"}}',
        '{"key": KEY, "milliseconds": 3}',
    ],
)  # fmt: skip
def test_damaged_files_are_measured_again(tmp_path: Path, content: str):
    cache = Cache(tmp_path)
    cache.keep(KEY, TIMES)
    (file,) = tmp_path.iterdir()
    file.write_text(content.replace("KEY", json.dumps({"schema": "1", **KEY})))
    assert cache.find(KEY, NAMES) is None
    cache.keep(KEY, TIMES)
    assert cache.find(KEY, NAMES) == TIMES


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "below")
    cache.keep(KEY, TIMES)
    assert cache.find(KEY, NAMES) is None


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRESPR_CACHE", str(tmp_path))
    assert user_cache().folder == tmp_path / "forms"
    monkeypatch.delenv("CRESPR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache().folder == tmp_path / "xdg" / "crespr-onnx" / "forms"
