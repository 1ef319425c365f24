"""Candidates of a search, in a process that may import TVM; prints what became of them as JSON."""

import json
import sys

import tvm
import tvm_ffi
from tvm import te, tirx

from crespr_onnx.targets import find_target
from crespr_onnx.targets.build import cpu_options
from crespr_onnx.targets.tuning.choices import apply_trace, trace_of
from crespr_onnx.targets.tuning.contest import Arena, Contest, Contestant, hold
from crespr_onnx.targets.tuning.kernels import Argument
from crespr_onnx.targets.tuning.meta_schedule import Search

OPTIONS = cpu_options(find_target("cpu"), 1)
FAR = 2**42


def scaled(factor: float, offset: int = 0) -> Contestant:
    """y[i] = factor x[i + offset]."""
    x = te.placeholder([tirx.const(64, "int64")], "float32", "x")
    far = tirx.const(offset, "int64")
    y = te.compute(x.shape, lambda i: x[i + far] * tirx.const(factor, "float32"), name="y")
    arguments = (Argument((64,), "float32"), Argument((64,), "float32"))
    return Contestant(te.create_prim_func([x, y], "int64"), arguments)


def contest() -> list[str]:
    """Names of those that are left over beside good ones, bad ones, and one that crashes."""
    arena = Arena(OPTIONS, "cpu", 1, None)
    others = {"same": scaled(2), "other": scaled(3), "crash": scaled(2, FAR), "good": scaled(2)}
    (outcome,) = hold([Contest(scaled(2), others)], arena)
    assert outcome is not None
    assert outcome.reference_us > 0
    return sorted(outcome.others_us)


def sums() -> tvm.tirx.PrimFunc:
    x = te.placeholder([tirx.const(64, "int64"), tirx.const(48, "int64")], "float32", "x")
    k = te.reduce_axis((0, 48), name="k")
    y = te.compute((64,), lambda i: te.sum(x[i, k], axis=k), name="y")
    return te.create_prim_func([x, y], "int64")


def search() -> list[bool]:
    """Whether traces come back as the schedules that they are of, and a seed gives the same."""
    function, target = sums(), tvm.target.Target(OPTIONS)
    found = []
    for _ in range(2):
        schedules = Search(function, target, 0, 4).propose()
        traces = [json.loads(json.dumps(trace_of(schedule))) for schedule in schedules]
        found.append(traces)
    proposed, again = schedules[0].mod["main"], apply_trace(function, traces[0])
    assert again is not None
    same = tvm_ffi.structural_equal(*(f.without_attr("global_symbol") for f in (proposed, again)))
    return [bool(same), found[0] == found[1], apply_trace(function, [[], [[5]]]) is None]


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"contest": contest, "search": search}[sys.argv[1]]()) + "\n")
