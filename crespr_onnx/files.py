"""Files that appear whole or not at all, and the one folder that a run may write to."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crespr_onnx.errors import UsageError

# Marks temporary files, so that those of a killed run can be told from the user's and removed.
TEMPORARY_PREFIX = ".crespr-"
TEMPORARY_SUFFIX = ".tmp"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file so that readers see the old content or the new, never a part of it.

    Args:
        path: where; its folder must exist.
        data: the content, text as UTF-8.

    Raises:
        UsageError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """For writers that want a path: yields a temporary file's, which becomes `path` at the end.

    If the body raises, `path` is left as it was. The temporary file lies in the same folder and
    keeps the suffix of `path`.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(
            prefix=f"{TEMPORARY_PREFIX}{path.stem}-",
            suffix=f"{TEMPORARY_SUFFIX}{path.suffix}",
            dir=path.parent,
        )
        os.close(handle)
    except OSError as error:
        raise _unwritable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only the owner reads; give this one the usual rights.
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class OutputFolder:
    """The folder of a run's results. Make one with `open`."""

    path: Path

    @classmethod
    def open(
        cls, path: Path, *, force: bool = False, resume: bool = False, owned: Iterable[str] = ()
    ) -> "OutputFolder":
        """Makes the folder, or takes one that exists.

        Args:
            path: the folder; missing parents are made.
            force: take a folder that is not empty and remove the owned files in it.
            resume: take a folder that is not empty and keep what is in it.
            owned: names of files that a run writes, which must not be left over from another one.
                Whatever else lies in the folder is left alone.

        Raises:
            UsageError: if the folder is not empty and neither force nor resume is given, both are
                given, `path` is no folder, or it cannot be written.
        """
        if force and resume:
            raise UsageError("--force starts over and --resume goes on; give one of them")
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; give a folder for the results")
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(not _is_temporary(entry) for entry in path.iterdir())
            if occupied and not (force or resume):
                raise UsageError(
                    f"{path} is not empty; give another folder, --force to replace its results, "
                    "or --resume to go on with an interrupted run"
                )
            for leftover in [entry for entry in path.iterdir() if _is_temporary(entry)]:
                leftover.unlink()
            for name in owned if force else ():
                (path / name).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error
        return cls(path)

    def write(self, name: str, data: bytes | str) -> Path:
        """Writes one file of the folder, whole or not at all, and returns its path.

        Raises:
            UsageError: if it cannot be written.
            ValueError: if `name` is more than the name of a file.
        """
        path = self.file(name)
        write_atomic(path, data)
        return path

    def file(self, name: str) -> Path:
        """Path of a file directly in the folder.

        Raises:
            ValueError: if `name` is more than the name of a file.
        """
        if name != Path(name).name or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not the name of a file inside the output folder")
        return self.path / name


def _is_temporary(entry: Path) -> bool:
    return entry.name.startswith(TEMPORARY_PREFIX) and TEMPORARY_SUFFIX in entry.suffixes


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be written: {error.strerror or error}; "
        "check its rights and the space left, or give another place"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
