import onnx_ir as ir
from split_models import two_convs

from crespr_onnx.passes.layer_forms import form_word, forms_of, split_layers
from crespr_onnx.passes.merge_groups import MergeGroups
from crespr_onnx.passes.separate_groups import SeparateGroups


def test_forms_are_those_of_the_graph():
    model = ir.from_proto(two_convs())
    assert split_layers(model) == ["conv1", "conv2"]
    assert forms_of(model) == {"conv1": "grouped", "conv2": "grouped"}
    SeparateGroups(frozenset({"conv1"}))(model)
    MergeGroups(frozenset({"conv2"}))(model)
    assert split_layers(model) == []
    assert forms_of(model) == {"conv1": "separate", "conv2": "dense"}


def test_products_are_batched():
    assert form_word("grouped", batched=True) == "batched"
    assert [form_word(f, batched=False) for f in ("grouped", "dense")] == ["grouped", "dense"]
