"""What a server takes at most, of one request and of all together."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MAX_SAMPLE_RATE = 192_000  # hertz
JSON_BYTES = 1 << 20  # of a body, beside the files in it


@dataclass(frozen=True)
class Limits:
    """Every limit of a server, each written once here.

    upload_bytes: of the files of one request, together. audio_seconds, image_pixels, points:
    of one query. k: hits on a page. deepest: the last hit that paging reaches. batch: queries of
    one request. text_characters: of one sentence.
    queue: requests that wait for the search at most. connections: that are open at a time.
    seconds: until a request is answered. body_seconds: until a body has come. head_seconds:
    until a request's first lines have come. decode_seconds: for one file. write_seconds: that a
    client may leave an answer unread.
    """

    upload_bytes: int = 16_000_000
    audio_seconds: float = 60.0
    image_pixels: int = 25_000_000
    points: int = 1_000_000
    k: int = 100
    deepest: int = 2000
    batch: int = 32
    text_characters: int = 2000
    queue: int = 256
    connections: int = 512
    seconds: float = 30.0
    body_seconds: float = 20.0
    head_seconds: float = 10.0
    decode_seconds: float = 10.0
    write_seconds: float = 30.0

    @property
    def body_bytes(self) -> int:
        """Of a request's body: files are a third longer in base64."""
        return self.upload_bytes * 4 // 3 + JSON_BYTES

    @property
    def sound_values(self) -> int:
        """Numbers of a decoded sound, all channels together."""
        return int(self.audio_seconds * MAX_SAMPLE_RATE)

    def told(self) -> dict[str, int | float]:
        """Those that a client can keep to."""
        names = (
            "upload_bytes", "audio_seconds", "image_pixels", "points", "k", "deepest", "batch",
            "text_characters",
        )  # fmt: skip
        return {name: value for name, value in asdict(self).items() if name in names}
