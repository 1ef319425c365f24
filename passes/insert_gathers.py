"""Lets wide inputs be clustered whose own order must stay: a Gather picks what each edge reads."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.layout import SELECTION, ChannelGraph
from crespr_onnx.passes.edit import Editor


@dataclass(frozen=True, eq=False)
class InsertGathers(InPlacePass):
    """Puts a Gather of all channels in front of each Gemm or MatMul that reads frozen ones.

    The list of a Gather may be shortened and reordered where its input may not, so the features of
    a graph input, say, become channels that clusters can share out among them. What is not used
    that way is removed by Cleanup again.

    Attributes:
        graph: channels of the model.
        min_channels: inputs with fewer channels stay shared.
    """

    graph: ChannelGraph
    min_channels: int = 32

    def call(self, model: ir.Model) -> PassResult:
        """Inserts in place; the channels of the model must be found anew afterwards."""
        edges = {
            e.name: e
            for e in self.graph.edges
            if e.op in ("Gemm", "MatMul")
            and e.frozen is None
            and len(e.in_channels) >= self.min_channels
            and self.graph.is_frozen(e.in_channels)
        }
        editor = Editor(model)
        modified = False
        for node in list(model.graph):
            edge = edges.get(node.name or "")
            data = node.inputs[0] if edge is not None else None
            made_already = data is not None and (
                (producer := data.producer()) is not None and SELECTION in producer.metadata_props
            )
            if edge is None or data is None or made_already:
                continue
            rank = 2 if node.op_type == "Gemm" else len(data.shape or (0, 0))
            every = np.arange(len(edge.in_channels), dtype=np.int64)
            indices = editor.constant(f"{edge.name}/selection", every)
            gather = editor.node(
                "Gather",
                [data, indices],
                f"{edge.name}/Gather",
                {"axis": rank - 1},
                metadata={SELECTION: edge.name},
            )
            gather.outputs[0].shape, gather.outputs[0].type = data.shape, data.type
            node.prepend(gather)
            node.replace_input_with(0, gather.outputs[0])
            modified = True
        return PassResult(model, modified)
