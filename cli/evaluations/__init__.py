"""`mcr eval PROTOCOL`: one file for each protocol. Without a protocol it is retrieval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from cli.boundary import guarded
from cli.evaluations.counterfactual import counterfactual
from cli.evaluations.diagnostics import diagnostics
from cli.evaluations.localisation import localisation
from cli.evaluations.retrieval import retrieval
from cli.evaluations.zero_shot import zero_shot

PROTOCOLS: dict[str, Callable[..., None]] = {
    "retrieval": retrieval,
    "zero-shot": zero_shot,
    "localisation": localisation,
    "counterfactual": counterfactual,
    "diagnostics": diagnostics,
}


class _RetrievalFirst(TyperGroup):
    """A group whose commands start with a word; options alone are those of retrieval."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # click's, or typer's own
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["retrieval", *args]
        return super().parse_args(ctx, args)


evaluations = typer.Typer(
    name="eval",
    cls=_RetrievalFirst,
    help="Measure a bridge or a space, by a protocol of the papers.",
    epilog="Without a protocol, options are those of retrieval. See docs/evaluation.md.",
    no_args_is_help=True,
)
for name, protocol in PROTOCOLS.items():
    evaluations.command(name)(guarded(protocol, continues=False))
