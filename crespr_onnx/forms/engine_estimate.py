"""The cost model as an engine, for machines that cannot be timed from here."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.cost_model import FILE, estimate
from crespr_onnx.forms.engine import Times
from crespr_onnx.targets.target import Target


class Estimated:
    """Costs in place of times."""

    method = "relative cost by a model fitted to kernels timed on x86, not measured"
    otherwise = "no other form is possible"
    estimates = True

    def __init__(self, target: Target, lanes: int) -> None:
        self._target = target
        self._lanes = lanes

    @property
    def key(self) -> Mapping[str, str]:
        """See `Engine`."""
        digest = hashlib.sha256(FILE.read_bytes()).hexdigest()[:16]
        return {"engine": f"cost model {digest}", "target": self._target.name}

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        """See `Engine`."""
        return [
            {
                name: estimate(model, contest.shapes, self._lanes)
                for name, model in contest.models().items()
            }
            for contest in contests
        ]
