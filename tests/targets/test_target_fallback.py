"""A function that no rule fits keeps the form that TVM gave it."""

import logging

import onnx
import pytest

from crespr_onnx.targets.schedule.machine import Machine

MACHINE = Machine(lanes=8, registers=16, threads=1)

tvm = pytest.importorskip("tvm")


def doubled(length):
    x = tvm.te.placeholder((length,), name="x")
    return tvm.te.create_prim_func([x, tvm.te.compute((length,), lambda i: x[i] * 2.0)])


@pytest.mark.parametrize(
    ("target", "lanes", "registers"),
    [
        ({"mcpu": "znver4"}, 16, 32),
        ({"mcpu": "haswell"}, 8, 16),
        ({"mcpu": "x86-64"}, 4, 16),
        ({"mcpu": "cortex-a72", "mtriple": "aarch64-linux-gnu"}, 4, 32),
    ],
)
def test_vector_unit_of_a_target(target, lanes, registers):
    from crespr_onnx.targets.schedule.machine import machine_of

    kind = "x86_64-linux-gnu"
    described = tvm.target.Target({"kind": "llvm", "mtriple": kind, **target})
    neon = "aarch64" in str(described.attrs["mtriple"])
    assert machine_of(described, 3) == Machine(lanes, registers, threads=3, neon=neon)


def test_element_wise_function_is_vectorised():
    from crespr_onnx.targets.schedule.pipeline import schedule_function

    assert "T.vectorized" in schedule_function(doubled(48), MACHINE).script()


def test_dynamic_function_is_left_alone():
    from crespr_onnx.targets.schedule.pipeline import schedule_function

    function = doubled(tvm.te.var("n"))
    assert schedule_function(function, MACHINE).same_as(function)


def test_every_function_of_a_small_net_is_scheduled(tmp_path, caplog):
    from crespr_onnx.targets.schedule.pipeline import schedule_module
    from crespr_onnx.targets.tvm_import import import_onnx

    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 1, 12, 12] x) => (float[1, 3] y)
        <float[4, 1, 3, 3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0, 3.0, 4.0,
            5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0, 3.0,
            4.0, 5.0, 6.0, 7.0, 8.0, 9.0}, float[3, 4] v = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
            8.0, 9.0, 1.0, 2.0, 3.0}> {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            r = Relu (c)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            g = GlobalAveragePool (p)
            f = Flatten (g)
            y = Gemm <transB = 1> (f, v)
        }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    target = tvm.target.Target({"kind": "llvm", "num-cores": 1})
    with caplog.at_level(logging.DEBUG, logger="crespr_onnx.targets"):
        module = schedule_module(import_onnx(tmp_path / "net.onnx", {}), target, 1)
    assert [record.getMessage() for record in caplog.records] == []
    names = {str(v.name_hint) for v, _ in module.functions_items()}
    assert {"main", "fused_conv2d_relu", "max_pool2d", "matmul"} <= names
