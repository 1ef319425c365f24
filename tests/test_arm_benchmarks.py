"""The counting of instructions under emulation, on loops whose counts are known."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "samples" / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "targets"))

import arm_forms
from board_models import require_emulation
from instruction_trace import Block, read_trace, totals, trace

from crespr_onnx.targets import find_target
from crespr_onnx.targets.link import run_compiler
from crespr_onnx.targets.system import compiler

LOOPS = {
    "arm64": """"1: fmla v0.4s, v1.4s, v2.4s\\n ldr q1, [%1]\\n add x9, x9, #1\\n"
                "subs %0, %0, #1\\n bne 1b" : "+r"(times) : "r"(place) : "x9", "v0", "cc" """,
    "armv7": """".fpu neon\\n 1: vmla.f32 q0, q1, q2\\n vld1.32 {d2, d3}, [%1]\\n add r9, r9, #1\\n"
                "subs %0, %0, #1\\n bne 1b" : "+r"(times) : "r"(place) : "r9", "cc" """,
}
"""Five instructions, two of them on vectors, one of which multiplies and adds."""

PROGRAM = """
    #define _POSIX_C_SOURCE 200809L
    #include <time.h>
    static void __attribute__((noinline)) loop(long times, float* place) {{
      __asm__ volatile({loop});
    }}
    int main(int count, char** words) {{
      static volatile long times[] = {{1000, 1000, 3000}};
      struct timespec now;
      float place[4] = {{0}};
      (void)words;
      clock_gettime(CLOCK_MONOTONIC, &now);
      for (int i = 0; i < 3; ++i) {{
        loop(times[i], place);
        clock_gettime(CLOCK_MONOTONIC, &now);
      }}
      return count - 1;
    }}
"""


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_counted_to_the_instruction(tmp_path, name):
    require_emulation(name)
    system = find_target(name).system
    source, program = tmp_path / "loop.c", tmp_path / "loop"
    source.write_text(PROGRAM.format(loop=LOOPS[name]))
    run_compiler([*compiler(system, program=True), "-O1", str(source), "-o", str(program)])
    before, _, short, long, after = trace([str(program)], system, timeout=60.0)
    counts = totals(short), totals(long)
    assert {key: counts[1][key] - counts[0][key] for key in counts[0]} == {
        "instructions": 5 * 2000,
        "vector": 2 * 2000,
        "multiply_adds": 2000,
    }
    assert counts[0]["multiply_adds"] == 1000
    # What calls the loop and reads the clock is not much.
    assert 5000 < counts[0]["instructions"] < 5200
    assert totals(before)["multiply_adds"] == totals(after)["multiply_adds"] == 0
    # A program that fails is told from one that ends.
    with pytest.raises(RuntimeError, match="exit code 1"):
        trace([str(program), "more"], system, timeout=60.0)


def test_a_block_that_is_translated_again_has_its_new_length():
    log = [
        b"IN: loop\n", b"0x10:  91000421  add x1, x1, #1\n", b"0x14:  d503201f  nop\n", b"\n",
        b"Trace 0: 0x7f01 [00/10/00/00] loop\n",
        b"Trace 0: 0x7f01 [00/10/00/00] loop\n",
        b"7 clock_gettime(1,0x20) = 0\n",
        b"IN: loop\n", b"0x10:  91000421  add x1, x1, #1\n", b"\n",
        b"Trace 0: 0x7f02 [00/10/00/01] loop\n",
    ]  # fmt: skip
    both, one = Block(16, ("add x1, x1, #1", "nop")), Block(16, ("add x1, x1, #1",))
    assert read_trace(log) == [{both: 2}, {one: 1}]


@pytest.mark.parametrize("form", arm_forms.FORMS)
def test_forms_of_a_layer_multiply_as_often_as_they_say(form):
    require_emulation("armv7")
    layer = arm_forms.Layer(32)
    found = arm_forms.counted(arm_forms.model_of(layer, 4, form), "armv7")
    # Four lanes each; every form has vectors full of columns.
    assert 4 * found["multiply_adds"] == layer.macs(1 if form == "dense" else 4)
    assert found["kernels"] == {"grouped": 2, "separate": 6, "dense": 1}[form]
