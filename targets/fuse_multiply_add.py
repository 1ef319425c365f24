"""Multiply-adds of NEON vectors on 32-bit ARM as the one instruction that they are.

Imports TVM: only processes of `worker` import this module.
"""

import tempfile
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

MAY_FUSE, FUSED = "@llvm.fmuladd.v4f32", "@llvm.fma.v4f32"


def fuse_multiply_adds(library: Any, target: "tvm.target.Target") -> Any:  # noqa: ANN401
    """A library whose vector multiply-adds are fused, or the same where that costs a call.

    LLVM's ARM backend lowers ``llvm.fmuladd`` of vectors to a multiplication and an addition, as
    if a fused one were always slower; asked for ``llvm.fma`` it emits VFMA, on cores that have it
    (VFPv4). On others that would become a call of the C library per element.

    Args:
        library: an LLVM module that TVM built.
        target: what it was built for.
    """
    triple = str(target.attrs.get("mtriple", ""))
    if not triple.startswith("arm") or not codegen.llvm_cpu_has_features("vfp4", target):
        return library
    text = library.inspect_source("ll")
    with tempfile.TemporaryDirectory(prefix="crespr-onnx-") as folder:
        path = Path(folder) / "kernels.ll"
        path.write_text(text.replace(MAY_FUSE, FUSED), encoding="utf-8")
        return tvm.runtime.load_module(str(path))
