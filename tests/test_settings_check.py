"""The rules for settings: each with a value just inside and just outside."""

from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.settings import CompressSettings
from crespr_onnx.settings_check import check_settings

GOOD = CompressSettings(Path("m.onnx"), 0.9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio", 1e-9),
        ("ratio", 0.9999),
        ("mac_ratio", 1e-9),
        ("mac_ratio", 0.9999),
        ("criterion", "taylor"),
        ("clusters", 1),
        ("epochs", 0),
        ("batch_size", 1),
        ("lr", 1e-12),
        ("max_drop", 0),
        ("max_drop", 1),
        ("min_speedup", 0),
        ("number_format", "int8"),
        ("form", "separate"),
        ("threads", 1),
        ("seed", 2**32 - 1),
        ("force", True),
        ("resume", True),
    ],
)
def test_values_that_pass(name: str, value: Any) -> None:
    check_settings(replace(GOOD, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ratio", 0.0, "--ratio is 0.0; it must be between 0 and 1: 0.98 keeps 2% of the weights"),
        ("ratio", 1.0, "--ratio is 1.0; it must be between 0 and 1"),
        ("ratio", 98.0, "--ratio is 98.0; it must be between 0 and 1"),
        ("ratio", nan, "--ratio is nan; it must be between 0 and 1"),
        ("mac_ratio", 0.0, "--mac-ratio is 0.0; it must be between 0 and 1: 0.95 keeps 5% of the"),
        ("mac_ratio", 1.0, "--mac-ratio is 1.0; it must be between 0 and 1"),
        ("mac_ratio", nan, "--mac-ratio is nan; it must be between 0 and 1"),
        ("criterion", "random", "--criterion is random; it must be one of magnitude, taylor"),
        ("clusters", 0, "--clusters is 0; it must be auto, or at least 1"),
        ("epochs", -1, "--epochs is -1; it must be 0 or more; 0 prunes without training"),
        ("batch_size", 0, "--batch-size is 0; it must be at least 1"),
        ("lr", 0.0, "--lr is 0.0; it must be positive, such as 0.003"),
        ("lr", inf, "--lr is inf; it must be positive"),
        ("max_drop", 5.0, "--max-drop is 5.0; it must be from 0 to 1: 0.05 is five points"),
        ("max_drop", -0.1, "--max-drop is -0.1; it must be from 0 to 1"),
        ("max_drop", nan, "--max-drop is nan; it must be from 0 to 1"),
        ("min_speedup", -1.0, "--min-speedup is -1.0; it must be 0 or more; 0 takes any speed"),
        ("min_speedup", inf, "--min-speedup is inf; it must be 0 or more"),
        ("number_format", "fp16", "--number-format is fp16; it must be one of float32, float16"),
        ("form", "dense", "--form is dense; it must be one of auto, grouped, sep"),
        (
            "patience",
            0,
            "--patience is 0; it must be at least 1, or left out to train for all epochs",
        ),
        ("precision", "fp16", "--precision is fp16; it must be one of auto, fp32, bf16"),
        ("threads", 0, "--threads is 0; it must be at least 1"),
        ("seed", -1, "--seed is -1; it must be from 0 to 4294967295"),
        ("seed", 2**32, "--seed is 4294967296; it must be from 0 to 4294967295"),
    ],
)
def test_values_that_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        check_settings(replace(GOOD, **{name: value}))


def test_force_and_resume_exclude_each_other() -> None:
    with pytest.raises(UsageError, match=r"^--force starts over and --resume goes on; "):
        check_settings(replace(GOOD, force=True, resume=True))
