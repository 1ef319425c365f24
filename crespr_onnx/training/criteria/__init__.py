"""The importance criteria by name."""

from collections.abc import Mapping

from crespr_onnx.training.criteria.criterion import Criterion
from crespr_onnx.training.criteria.hessian import Hessian
from crespr_onnx.training.criteria.lrp import Lrp
from crespr_onnx.training.criteria.magnitude import Magnitude
from crespr_onnx.training.criteria.taylor import Taylor

CRITERIA: Mapping[str, Criterion] = {
    "magnitude": Magnitude(),
    "taylor": Taylor(),
    "hessian": Hessian(),
    "lrp": Lrp(),
}
