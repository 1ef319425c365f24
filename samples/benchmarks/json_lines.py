"""Records of benchmarks: files with a JSON object per line."""

import json
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All records of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def show_line(record: dict[str, Any], out: Path | None) -> None:
    """Prints a record, and appends it to a file if there is one."""
    print(json.dumps(record), flush=True)
    append_line(record, out)


def append_line(record: dict[str, Any], out: Path | None) -> None:
    """Appends a record to a file, if there is one."""
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
