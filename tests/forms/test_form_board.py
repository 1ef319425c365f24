"""Forms timed on another machine: TVM's RPC server on the loopback interface."""

from math import inf
from pathlib import Path

import pytest
from form_models import SHAPES, conv_net
from rpc_servers import free_port, rpc_server

from crespr_onnx.forms.cache import Cache
from crespr_onnx.forms.clock import Clock
from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.engine_tvm import Compiled
from crespr_onnx.targets import find_target
from crespr_onnx.targets.remote import Board

FORMS = {form: {"three": form} for form in ("grouped", "separate")}


def test_forms_are_timed_on_a_board(tmp_path: Path) -> None:
    contests = [Contest(conv_net(), FORMS, SHAPES, turn_seconds=0.002)]
    with rpc_server(tmp_path) as board:
        (found,) = Compiled(find_target("cpu"), 8, board, inf).time(contests, lambda _: None)
    assert set(found) == {"grouped", "separate"}
    assert all(0 < time < 100 for time in found.values())


def test_what_a_board_does_not_answer_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Compiled(find_target("cpu"), 8, Board("127.0.0.1", free_port()), inf)
    clock = Clock(engine, Cache(tmp_path))
    assert clock.time([Contest(conv_net(), FORMS, SHAPES)], lambda _: None) == [{}]
    assert "forms are not timed: cannot connect to 127.0.0.1" in caplog.text
    assert list(tmp_path.iterdir()) == []
