"""Which layers are chosen for together, and what is cut out to time them."""

import numpy as np
import pytest
from form_models import conv_net, folded, normal, split

from crespr_onnx.forms.units import find_units, part_of
from crespr_onnx.graph.session import run


def names(nodes) -> list[str]:
    return [node.name for node in nodes]


def test_chains_end_at_dense_layers_and_at_selections():
    chain, alone = find_units(conv_net())
    assert (chain.layers, chain.name) == (("one", "two"), "one")
    assert names(chain.nodes) == ["one", "r", "two", "s", "t"]
    assert alone.layers == ("three",)
    assert names(alone.nodes) == ["chosen", "three", "y"]


def test_parts_compute_what_they_do_inside():
    model = conv_net()
    feeds = {"x": normal(9, 3, 4, 6, 6)}
    whole = model.clone()
    wanted = {n.name: n.outputs[0] for n in whole.graph if n.name in ("t", "mixed")}
    whole.graph.outputs.extend(wanted.values())
    inside = run(whole, feeds)
    chain, alone = (part_of(model, unit) for unit in find_units(model))
    assert [v.name for v in (*chain.graph.inputs, *chain.graph.outputs)] == ["x", "t"]
    np.testing.assert_allclose(run(chain, feeds)["t"], inside["t"], rtol=1e-5, atol=1e-6)
    assert [v.name for v in alone.graph.inputs] == ["mixed"]
    found = run(alone, {"mixed": inside["mixed"]})
    np.testing.assert_allclose(found["y"], inside["y"], rtol=1e-5, atol=1e-6)
    assert len(list(model.graph)) == 9


def test_a_residual_around_a_split_layer_is_one_unit():
    model = folded(
        """g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
            one = Conv<group = 2>(x, w1)
            r = Relu(one)
            two = Conv<group = 2>(r, w2)
            s = Add(two, r)
            three = Conv<group = 2>(s, w3)
            y = Identity(three)
        }""",
        {name: split(name) for name in ("one", "two", "three")},
        w1=normal(0, 4, 2, 1, 1), w2=normal(1, 4, 2, 1, 1), w3=normal(2, 4, 2, 1, 1),
    )  # fmt: skip
    (unit,) = find_units(model)
    assert unit.layers == ("one", "two", "three")
    assert names(unit.nodes) == ["one", "r", "two", "s", "three", "y"]


@pytest.mark.parametrize(
    ("between", "clusters"),
    [("r = Relu(one)", 4), ("r = Softmax<axis = 1>(one)", 2), ("r = Conv(one, dense)", 2)],
)
def test_neighbours_that_cannot_become_branches_are_apart(between: str, clusters: int):
    model = folded(
        f"""g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] two) {{
            one = Conv<group = 2>(x, w1)
            {between}
            two = Conv<group = {clusters}>(r, w2)
        }}""",
        {"one": split("one"), "two": split("two", clusters)},
        w1=normal(0, 4, 2, 1, 1), w2=normal(1, 4, 4 // clusters, 1, 1),
        **({"dense": normal(2, 4, 4, 1, 1)} if "dense" in between else {}),
    )  # fmt: skip
    assert [unit.layers for unit in find_units(model)] == [("one",), ("two",)]


def test_a_model_without_split_layers_has_no_units():
    text = "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"
    assert find_units(folded(text, {})) == []


def test_a_value_that_others_read_as_well_comes_out():
    model = folded(
        """g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y, float[N, 4, 6, 6] z) {
            one = Conv<group = 2>(x, w1)
            y = Relu(one)
            z = Sigmoid(one)
        }""",
        {"one": split("one")},
        w1=normal(0, 4, 2, 1, 1),
    )
    (unit,) = find_units(model)
    assert names(unit.nodes) == ["one"]
    assert [v.name for v in part_of(model, unit).graph.outputs] == ["one"]
