"""A process of its own in which files are decoded, so that what is in them harms nothing else.

`python -m bridge.serving.decoder LIMITS` takes one task a line of JSON from its input and answers
each with a line of JSON and so many bytes. It may not write files, has bounded memory, and
imports no torch. What takes too long is killed by `bridge.serving.decoders`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from bridge.serving.limits import Limits
from bridge.serving.refusal import UNPROCESSABLE, Refusal
from bridge.serving.tasks import TASKS
from features.errors import ItemError, UserError

MEMORY = 2 << 30  # bytes of address space


def main() -> None:
    """Work on tasks until the input ends."""
    limits = Limits(**json.loads(sys.argv[1]))
    _confine()
    for line in sys.stdin.buffer:
        task = json.loads(line)
        told, content = _answer(task["task"], Path(task["path"]), limits)
        header = json.dumps({**told, "bytes": len(content)}).encode()
        sys.stdout.buffer.write(header + b"\n" + content)
        sys.stdout.buffer.flush()


def _answer(name: str, path: Path, limits: Limits) -> tuple[dict[str, object], bytes]:
    try:
        made = TASKS[name](path, limits)
        return {"status": 200, "note": made.note}, made.content
    except Refusal as refusal:
        return {"status": refusal.status, "detail": str(refusal)}, b""
    except MemoryError:
        detail = "it takes more memory than there is for one file"
    except (ItemError, UserError) as error:
        detail = str(error)
    except Exception as error:  # whatever a decoder makes of damaged bytes
        detail = f"it cannot be decoded ({type(error).__name__})"
    return {"status": UNPROCESSABLE, "detail": detail}, b""


def _confine() -> None:
    """Give up writing files and unbounded memory, where the system lets a process do so."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
