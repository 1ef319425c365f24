"""Resizes that ask for sizes of all axes ask for those in space alone, where they are known."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import Dims, inferred_dims, input_at, is_op, opset, remove_dead


@dataclass(frozen=True)
class ResizeInSpace(ir.passes.InPlacePass):
    """Takes the batch and the channels out of the sizes that a Resize is given.

    Exporters assemble them from the shape of the input, so that the number of channels is read at
    run time. From opset 18 on a Resize can list the axes that it works on; before that it gets
    scales instead, where these give the same sizes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        nodes = [n for n in model.graph if is_op(n, "Resize") and _asks_for_all_sizes(n)]
        if not nodes:
            return ir.passes.PassResult(model, False)
        dims, editor, modified = inferred_dims(model), Editor(model), False
        for node in nodes:
            before, after = (
                dims.get(v.name or "", ()) if v is not None else ()
                for v in (node.inputs[0], node.outputs[0])
            )
            space = _known_space(before, after)
            if space is None:
                continue
            if opset(model) >= 18:
                editor.set_input(node, 3, f"{node.name}/sizes", [size for _, size in space])
                node.attributes["axes"] = ir.AttrInt64s("axes", list(range(2, len(after))))
            else:
                scales = np.array([new / old for old, new in space], dtype=np.float32)
                if [int(old * s) for (old, _), s in zip(space, scales, strict=True)] != [
                    new for _, new in space
                ]:
                    continue
                computed = node.inputs[3]
                every = np.concatenate([np.ones(2, dtype=np.float32), scales])
                editor.set_input(node, 2, f"{node.name}/scales", every)
                node.resize_inputs(3)
                remove_dead([computed])
            modified = True
        return ir.passes.PassResult(model, modified)


def _asks_for_all_sizes(node: ir.Node) -> bool:
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if "axes" in node.attributes or policy != "stretch" or mode == "tf_crop_and_resize":
        return False
    return input_at(node, 3) is not None


def _known_space(before: Dims, after: Dims) -> list[tuple[int, int]] | None:
    """Old and new size of each axis behind the channels, or None if one of them is not known."""
    if len(before) < 3 or len(before) != len(after) or before[1] != after[1] or before[1] is None:
        return None
    pairs = [(a, b) for a, b in zip(before[2:], after[2:], strict=True) if a and b]
    return pairs if len(pairs) == len(before) - 2 else None
