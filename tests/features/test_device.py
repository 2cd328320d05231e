"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch

from features.device import PRECISIONS, precision_name, resolve_precision
from features.errors import UserError


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_precision_has_the_name_that_asks_for_it(name: str, dtype: torch.dtype) -> None:
    assert resolve_precision(name) == dtype
    assert precision_name(dtype) == name
    assert name in PRECISIONS


def test_other_dtypes_keep_torchs_name_and_cannot_be_asked_for() -> None:
    assert precision_name(torch.float64) == "float64"
    for name in ("float64", "float32", ""):
        with pytest.raises(UserError, match=f"^'{name}' is not a precision: use one of fp32, bf16"):
            resolve_precision(name)
