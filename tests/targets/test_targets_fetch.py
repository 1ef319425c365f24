"""`crespr-onnx targets --fetch`: getting TVM's runtime for a board."""

import json
from pathlib import Path
from typing import Any

from board_models import require_emulation

NAMES = {
    "libtvm_runtime.so", "libtvm_runtime_extra.so", "libtvm_runtime_cuda.so", "libtvm_ffi.so",
}  # fmt: skip


def test_fetched_files_are_named_with_their_sizes(call: Any) -> None:
    require_emulation("arm64")
    code, out, err = call("targets", "--fetch", "arm64:cortex-a72", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    folder = Path(found["folder"])
    assert found["files"] == {name: (folder / name).stat().st_size for name in NAMES}
    code, out, err = call("targets", "--fetch", "arm64")
    assert (code, err) == (0, "")
    assert out.startswith(f"{folder}: libtvm_runtime.so 3.0 MB, ")


def test_target_without_a_runtime_to_fetch(call: Any) -> None:
    for target in ("cpu", "armv7", "armv7:cortex-a9"):
        code, out, err = call("targets", "--fetch", target)
        assert (code, out) == (2, "")
        assert f"target '{target}' needs no runtime of TVM's for a board" in err


def test_failed_download_ends_with_the_exit_code_of_compilers(
    call: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    code, out, err = call("targets", "--fetch", "arm64")
    assert (code, out) == (8, "")
    assert err.startswith("error: cannot download apache-tvm==")
    assert len(err.splitlines()) <= 2
