"""The one error of the server: a status, and a sentence for whoever asked."""

from __future__ import annotations

BAD_REQUEST, NOT_FOUND, TIMED_OUT, TOO_LARGE, UNSUPPORTED = 400, 404, 408, 413, 415
UNPROCESSABLE, BUSY, TOO_SLOW = 422, 503, 504


class Refusal(Exception):  # noqa: N818  # it is the answer, not a fault
    """A request that is not answered; the message is one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
