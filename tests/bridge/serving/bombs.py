"""Files that are not what they say, or much more than they look like."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import soundfile


@cache
def png_bomb(width: int, height: int, *, rows: int) -> bytes:
    """A PNG that claims a size, with some rows of zeros, which deflate to next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    content = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@cache
def npz(header: bytes, size: int) -> bytes:
    """An archive with one array whose bytes are zeros, deflated."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xyz.npy", "w") as f,
    ):
        f.write(header)
        for _ in range(size >> 20):
            f.write(bytes(1 << 20))
    return out.getvalue()


def npy_header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def silence(seconds: float, rate: int = 8000, kind: str = "FLAC") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(int(seconds * rate), np.float32), rate, format=kind)
    return out.getvalue()


def claiming_flac() -> bytes:
    """Two seconds that say they are 2**36 - 1 samples."""
    content = bytearray(silence(2))
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    return bytes(content)


def wav_header(frames: int, rate: int = 8000, channels: int = 1) -> bytes:
    """A WAV file that claims more than it holds."""
    block = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, 16)
    data = frames * block & 0xFFFFFFFF
    start = (
        b"RIFF" + struct.pack("<I", 36 + data & 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16)
    )
    return start + form + b"data" + struct.pack("<I", data) + bytes(64)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes([0x80, 0, 0]) + bytes(64)


def pickled() -> bytes:
    """An .npy of objects, whose pickle would run a command."""
    return npy_header("(1,)", "|O") + b"cposix\nsystem\n(S'touch /tmp/mcr-pwned'\ntR."


BAD_FILES: dict[str, Callable[[], tuple[bytes, str]]] = {
    "pixels of a PNG bomb": lambda: (png_bomb(20_000, 20_000, rows=20_000), "a.png"),
    "pixels that are claimed": lambda: (png_bomb(2**31 - 1, 2**31 - 1, rows=1), "a.png"),
    "a PNG that ends early": lambda: (png_bomb(900, 900, rows=3), "a.png"),
    "pixels of a GIF": lambda: (gif(65535, 65535), "a.gif"),
    "no picture": lambda: (b"not a picture", "a.jpg"),
    "nothing": lambda: (b"\0", "a.png"),
    "a page as a picture": lambda: (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.png"),
    "postscript as a picture": lambda: (b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9", "a.png"),
    "a sound that is too long": lambda: (silence(3600), "a.flac"),
    "seconds that are claimed": lambda: (claiming_flac(), "a.flac"),
    "many channels": lambda: (wav_header(9, channels=65535), "a.wav"),
    "a rate of nothing": lambda: (wav_header(9, rate=0), "a.wav"),
    "a rate of much": lambda: (wav_header(9, rate=2**32 - 1), "a.wav"),
    "no sound": lambda: (bytes(range(256)) * 9, "a.ogg"),
    "half a sound": lambda: (silence(2)[:60], "a.flac"),
    "an archive bomb": lambda: (npz(npy_header("(8000000, 3)"), 96 << 20), "a.npz"),
    "points that are claimed": lambda: (npy_header("(4000000000, 3)") + bytes(99), "a.npy"),
    "negative points": lambda: (npy_header("(-4, 3)") + bytes(99), "a.npy"),
    "a pickle": lambda: (pickled(), "a.npy"),
    "no archive": lambda: (b"PK\3\4 and nothing", "a.npz"),
    "faces that are claimed": lambda: (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\n"
        b"property float y\nproperty float z\nend_header\n" + bytes(99), "a.ply"),
    "a compressed cloud that claims much": lambda: (
        b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 100000000\n"
        b"HEIGHT 1\nPOINTS 100000000\nDATA binary_compressed\n"
        + struct.pack("<II", 64, 1_200_000_000) + bytes(64), "a.pcd"),
    "points that are not finite": lambda: (b"nan nan nan\n" * 50, "a.xyz"),
    "a deep header": lambda: (npy_header("(" * 30_000 + ")" * 30_000), "a.npy"),
}  # fmt: skip
