"""The one error of the server: a status, and a sentence for whoever asked."""

from __future__ import annotations

from bridge.serving.limits import Limits

BAD_REQUEST, NOT_FOUND, TIMED_OUT, TOO_LARGE, UNSUPPORTED = 400, 404, 408, 413, 415
UNPROCESSABLE, BUSY, TOO_SLOW = 422, 503, 504


class Refusal(Exception):  # noqa: N818  # it is the answer, not a fault
    """A request that is not answered; the message is one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def too_slow(limits: Limits) -> Refusal:
    """The time of a request is over."""
    return Refusal(TOO_SLOW, f"no answer was found within {limits.seconds:g} s: ask for less")
