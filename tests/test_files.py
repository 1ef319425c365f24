"""Files appear whole or not at all, in a folder that is this run's own."""

import os
import stat
from pathlib import Path

import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.files import OutputFolder, atomic_path, write_atomic


def test_writes_bytes_and_text(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.bin", b"\x00\xff")
    write_atomic(tmp_path / "a.txt", "größer\n")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer\n"
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "a.txt"]


def test_rights_are_those_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomic(tmp_path / "a", b"")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_atomic(path, b"old")
    seen: list[bytes] = []

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"ne")
            seen.append(path.read_bytes())
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert seen == [b"old"]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_writers_see_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "lib.so") as temporary:
        assert temporary.suffix == ".so"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"elf")
    assert (tmp_path / "lib.so").read_bytes() == b"elf"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a/b\.txt cannot be written: No such file .*; check its"):
        write_atomic(tmp_path / "a" / "b.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder cannot be written: Is a directory"):
        write_atomic(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]


def test_makes_a_folder_with_its_parents(tmp_path: Path) -> None:
    folder = OutputFolder.open(tmp_path / "a" / "b")
    written = folder.write("report.json", "{}")
    assert written == tmp_path / "a" / "b" / "report.json"
    assert written.read_text() == "{}"


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    assert OutputFolder.open(tmp_path).path == tmp_path


def test_a_folder_in_use_needs_force_or_resume(tmp_path: Path) -> None:
    for name in ("model.onnx", "notes.txt"):
        (tmp_path / name).write_text("old")
    with pytest.raises(UsageError, match="is not empty; give another folder, --force to replace"):
        OutputFolder.open(tmp_path)
    OutputFolder.open(tmp_path, resume=True, owned=["model.onnx"])
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "notes.txt"]
    OutputFolder.open(tmp_path, force=True, owned=["model.onnx", "report.json"])
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_force_and_resume_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--force starts over and --resume goes on; give one"):
        OutputFolder.open(tmp_path, force=True, resume=True)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    context = atomic_path(tmp_path / "model.onnx")
    temporary = context.__enter__()
    temporary.write_bytes(b"half")
    (tmp_path / ".hidden.tmp").write_text("the user's")
    OutputFolder.open(tmp_path, resume=True)
    assert os.listdir(tmp_path) == [".hidden.tmp"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="out is a file; give a folder for the results"):
        OutputFolder.open(tmp_path / "out")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        OutputFolder.open(tmp_path / "out" / "inner")


@pytest.mark.parametrize("name", ["../a", "/etc/a", "sub/a", "", ".", ".."])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    folder = OutputFolder.open(tmp_path / "out")
    with pytest.raises(ValueError, match="is not the name of a file inside the output folder"):
        folder.write(name, b"")
    assert os.listdir(tmp_path / "out") == []
