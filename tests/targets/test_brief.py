import pytest

from crespr_onnx.targets.brief import brief


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('#0 frame\n  File "x.cc", line 1\nCheck failed: shapes differ\n', "shapes differ"),
        ("Check failed: no such loop\n\nx = y\n    ^\nz = x\n    ^", "Check failed: no such loop"),
    ],
)
def test_the_reason_is_found(text, expected):
    assert brief(RuntimeError(text)).endswith(expected)


def test_without_a_message_the_kind_is_named():
    assert brief(RuntimeError("")) == "RuntimeError"
    assert brief(KeyError("axis")) == "KeyError: 'axis'"


def test_long_messages_are_cut():
    assert brief(RuntimeError("x" * 300), limit=10) == "x" * 7 + "..."
