"""`mcr`: the app and its commands. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cli.ablate import ablate
from cli.boundary import guarded
from cli.compare import compare
from cli.completion import complete_in_bash, completes_in_bash
from cli.crops import crops
from cli.demo import demo
from cli.doctor import doctor
from cli.encoders import encoders
from cli.evaluations import evaluations
from cli.export import export_memory
from cli.extract import extract
from cli.fit import fit
from cli.import_ import import_memory
from cli.import_cmcr import import_cmcr
from cli.index import index
from cli.info import info
from cli.init import init
from cli.merge import merge
from cli.plot import plots
from cli.project import project
from cli.pull import pull
from cli.push import push
from cli.query import query
from cli.report import report
from cli.run import run as run_recipe
from cli.runs import runs
from cli.serve import serve
from cli.train import train
from cli.tune import tune
from cli.verify import verify

app = typer.Typer(
    name="mcr",
    help="Bridge frozen embedding spaces without paired data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes would double the time that --help takes
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "init": init,
    "run": run_recipe,
    "extract": extract,
    "train": train,
    "project": project,
    "index": index,
    "query": query,
    "serve": serve,
    "compare": compare,
    "crops": crops,
    "ablate": ablate,
    "tune": tune,
    "runs": runs,
    "info": info,
    "verify": verify,
    "merge": merge,
    "import": import_memory,
    "export": export_memory,
    "push": push,
    "pull": pull,
    "import-cmcr": import_cmcr,
    "encoders": encoders,
    "doctor": doctor,
    "report": report,
    "fit": fit,
}
for name, command in COMMANDS.items():
    app.command(name)(
        guarded(
            command,
            continues=name in ("extract", "train", "tune", "ablate", "demo", "run"),
            together=name == "train",
        )
    )
app.add_typer(evaluations)
app.add_typer(plots)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mcr-bridge {version('mcr-bridge')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Bridge frozen embedding spaces without paired data."""


def run() -> None:
    """The console script."""
    try:
        if completes_in_bash():
            complete_in_bash(app)
        else:
            app()
    finally:
        if "triton" not in sys.modules:  # which reports as leaked what is not collected
            gc.freeze()  # else Python spends half a second at its end on looking through torch
