"""The rules that the settings of a run must keep, checked before anything is read."""

import math

from crespr_onnx.errors import UsageError
from crespr_onnx.settings import CompressSettings

# Named again in crespr_onnx.training.criteria, which takes long to import: it needs PyTorch.
CRITERIA = ("magnitude", "taylor", "hessian", "lrp")
PRECISIONS = ("auto", "fp32", "bf16")
NUMBER_FORMATS = ("float32", "float16", "int8")
FORMS = ("auto", "grouped", "separate")
# Seeds that every generator takes: NumPy's legacy ones stop here.
MAX_SEED = 2**32 - 1


def check_settings(settings: CompressSettings) -> None:
    """Refuses settings that no run can keep, whatever the model and the data.

    Raises:
        UsageError: naming the first option that is wrong, its value and its rule.
    """
    s = settings
    _require(0 < s.ratio < 1, "ratio", s.ratio, "between 0 and 1: 0.98 keeps 2% of the weights")
    possible = s.mac_ratio is None or 0 < s.mac_ratio < 1
    _require(possible, "mac-ratio", s.mac_ratio, "between 0 and 1: 0.95 keeps 5% of the work")
    _require(s.criterion in CRITERIA, "criterion", s.criterion, f"one of {', '.join(CRITERIA)}")
    _require(s.clusters is None or s.clusters >= 1, "clusters", s.clusters, "auto, or at least 1")
    _require(s.epochs >= 0, "epochs", s.epochs, "0 or more; 0 prunes without training")
    _require(s.batch_size >= 1, "batch-size", s.batch_size, "at least 1")
    _require(math.isfinite(s.lr) and s.lr > 0, "lr", s.lr, "positive, such as 0.003")
    patient = s.patience is None or s.patience >= 1
    _require(patient, "patience", s.patience, "at least 1, or left out to train for all epochs")
    precisions = ", ".join(PRECISIONS)
    _require(s.precision in PRECISIONS, "precision", s.precision, f"one of {precisions}")
    formats = ", ".join(NUMBER_FORMATS)
    known = s.number_format in NUMBER_FORMATS
    _require(known, "number-format", s.number_format, f"one of {formats}")
    _require(0 <= s.max_drop <= 1, "max-drop", s.max_drop, "from 0 to 1: 0.05 is five points")
    fast_enough = math.isfinite(s.min_speedup) and s.min_speedup >= 0
    _require(fast_enough, "min-speedup", s.min_speedup, "0 or more; 0 takes any speed")
    _require(s.tune >= 0, "tune", s.tune, "0 or more candidates per kernel, such as 32")
    _require(s.form in FORMS, "form", s.form, f"one of {', '.join(FORMS)}")
    _require(s.threads is None or s.threads >= 1, "threads", s.threads, "at least 1")
    _require(0 <= s.seed <= MAX_SEED, "seed", s.seed, f"from 0 to {MAX_SEED}")
    if s.force and s.resume:
        raise UsageError("--force starts over and --resume goes on; give one of them")


def _require(holds: bool, option: str, value: object, rule: str) -> None:
    if not holds:
        raise UsageError(f"--{option} is {value}; it must be {rule}")
