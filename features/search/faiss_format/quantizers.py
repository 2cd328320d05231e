"""Scalar and product quantizers in a FAISS file: do their codes fit the vectors?

Axes: d dimensions.
"""

from __future__ import annotations

from features.search.faiss_format.content import Content

# Of scalar quantizers by number: bits of a value, and learned numbers of each dimension or of all.
_SCALARS = {0: (8, 2, 0), 1: (4, 2, 0), 2: (8, 0, 2), 3: (4, 0, 2), 4: (16, 0, 0), 5: (8, 0, 0),
            6: (6, 2, 0), 7: (16, 0, 0), 8: (8, 0, 0)}  # fmt: skip
_MOST_BITS = 16  # of a code of a product quantizer


def scalar_quantizer(content: Content, d: int) -> int:
    """Bytes of a code."""
    kind, rule = content.number("<i4"), content.number("<i4")
    content.number("<f4")  # of the rule by which it was trained
    width, code_size = content.number("<u8"), content.number("<u8")
    if kind not in _SCALARS or not 0 <= rule <= 3 or width != d:
        raise ValueError(f"its scalar quantizer {kind} of {width} dimensions is not one of {d}")
    bits, of_each, of_all = _SCALARS[kind]
    if code_size != -(-bits * d // 8):
        raise ValueError(f"its codes have {code_size} bytes for {d} values of {bits} bits")
    content.array("<f4", of_each * d + of_all, "numbers of its scalar quantizer")
    return int(code_size)


def product_quantizer(content: Content, d: int) -> int:
    """Bytes of a code."""
    width, parts, bits = (content.number("<u8") for _ in range(3))
    if width != d or not 1 <= parts <= d or d % parts or not 1 <= bits <= _MOST_BITS:
        raise ValueError(
            f"its product quantizer has {parts} parts of {bits} bits for {width} of {d} dimensions"
        )
    content.array("<f4", d << bits, "numbers of its product quantizer")
    return int(-(-parts * bits // 8))
