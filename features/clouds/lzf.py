"""LZF decompression, for compressed .pcd files.

Format: Marc Lehmann's LibLZF. A control byte below 32 starts a run of that many bytes and one;
any other starts a copy of what came before: three bits of length, thirteen of distance.
"""

from __future__ import annotations

_RUN = 32
_LONG = 7


def decompress(packed: bytes, size: int) -> bytes:
    """The `size` bytes that `packed` stands for. Raises ValueError if it stands for others."""
    out = bytearray()
    position = 0
    try:
        while position < len(packed) and len(out) <= size:
            control = packed[position]
            position += 1
            if control < _RUN:
                stop = position + control + 1
                out += packed[position:stop]
                position = stop
                continue
            length = control >> 5
            if length == _LONG:
                length += packed[position]
                position += 1
            start = len(out) - ((control & 31) << 8) - packed[position] - 1
            position += 1
            _copy(out, start, length + 2)
    except IndexError:
        position = len(packed) + 1
    if position != len(packed) or len(out) != size:
        raise ValueError(f"its compressed data are damaged: they do not make {size} bytes")
    return bytes(out)


def _copy(out: bytearray, start: int, length: int) -> None:
    """Append `length` bytes from `start` on, which may run into the bytes it appends."""
    if start < 0:
        raise IndexError
    chunk = out[start : start + length]
    out += (chunk * -(-length // len(chunk)))[:length]
