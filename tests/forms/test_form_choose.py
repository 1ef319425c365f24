"""The choice from given times."""

import pytest

from crespr_onnx.forms.choose import MARGIN, Choice, Timed, choose, fastest


def unit(extra: int = 0, **times: float) -> Timed:
    return Timed(times, lambda: extra)


def test_the_fastest_form_is_chosen():
    units = [
        unit(grouped=5.0, separate=4.0, dense=6.0),
        unit(grouped=4.0, separate=5.0, dense=6.0),
        unit(100, grouped=4.0, separate=5.0, dense=3.0),
    ]
    assert choose(units, 100) == [Choice("separate"), Choice("grouped"), Choice("dense")]


@pytest.mark.parametrize("saved", [0.0, 0.02, 0.029])
def test_what_saves_less_than_the_margin_is_noise(saved: float):
    assert MARGIN == 0.03
    times = {"grouped": 1.0, "separate": 1.0 - saved}
    assert fastest(times, "grouped") == "grouped"
    assert choose([unit(**times, dense=1.0 - saved)], 10) == [Choice("grouped")]


def test_the_margin_and_more_is_enough():
    assert fastest({"grouped": 1.0, "separate": 0.96}, "grouped") == "separate"


def test_dense_gives_way_to_the_ratio_and_is_reported():
    slow = unit(100, grouped=4.0, separate=3.0, dense=1.0)
    assert choose([slow], 99) == [Choice("separate", refused=True)]
    assert choose([slow], 100) == [Choice("dense")]


def test_the_allowance_goes_where_a_weight_saves_most():
    units = [
        unit(100, grouped=4.0, dense=2.0),
        unit(10, grouped=4.0, dense=2.0),
        unit(20, grouped=4.0, dense=2.0),
    ]
    assert [c.form for c in choose(units, 30)] == ["grouped", "dense", "dense"]
    # What does not fit any more leaves its part to what does.
    assert [c.form for c in choose(units, 115)] == ["grouped", "dense", "dense"]
    assert [c.form for c in choose(units, 130)] == ["dense", "dense", "dense"]


def test_of_equals_the_first_gets_it():
    units = [unit(10, grouped=4.0, dense=2.0)] * 2
    assert [c.form for c in choose(units, 10)] == ["dense", "grouped"]


def test_what_was_not_timed_stays_grouped():
    assert choose([unit(), unit(separate=1.0)], 100) == [Choice("grouped")] * 2


def test_weights_are_only_counted_where_dense_is_fastest():
    def never() -> int:
        raise RuntimeError

    assert choose([Timed({"grouped": 1.0, "dense": 2.0}, never)], 0) == [Choice("grouped")]
