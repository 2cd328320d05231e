"""`python -m tests.bridge.serving.limited LIMITS MEMORY HTTP` serves a memory with other limits.

HTTP: h11, which uvicorn brings, or httptools, which it takes where it is installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.argv[3] == "h11":
        sys.modules["httptools"] = None  # as if it were not installed
    from bridge.serving.app import create_app
    from bridge.serving.limits import Limits
    from bridge.serving.server import listen, run
    from bridge.serving.state import open_served

    limits = Limits(**json.loads(sys.argv[1]))
    served = open_served([], [], [Path(sys.argv[2])], device="cpu")
    listening = listen("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201
    run(create_app(served, limits=limits), listening, limits)
