"""What a command makes of SIGTERM and Ctrl-C, wherever they come."""

from __future__ import annotations

import signal
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from cli.boundary import guarded
from cli.stopping import SIGNALS, stoppable
from features.errors import ToldElsewhereError

BOTH = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)


def ended(command, *, continues=False):
    app = typer.Typer()
    app.command()(guarded(command, continues=continues))
    return CliRunner().invoke(app, [])


@BOTH
def test_a_command_ends_with_the_shells_code_and_a_sentence(number, code):
    tidied = []

    def command() -> None:
        try:
            signal.raise_signal(number)
        finally:
            tidied.append(number)

    result = ended(command, continues=True)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == "stopped: run the same command again to continue\n"
    assert tidied == [number]


@BOTH
def test_an_import_that_makes_an_error_of_it_is_stopped_too(number, code):
    def command() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error

    result = ended(command)
    assert (result.exit_code, result.stderr) == (code, "stopped\n")


@BOTH
def test_of_processes_that_are_stopped_together_one_says_so(number, code):
    def command() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise ToldElsewhereError("another process has told why") from error

    result = ended(command, continues=True)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "")


@BOTH
def test_what_python_drops_in_a_finaliser_comes_again(number, code):
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def command() -> None:
        held = Dropping()
        del held
        time.sleep(60)

    result = ended(command)
    assert (result.exit_code, result.stderr) == (code, "stopped\n")


@BOTH
def test_handlers_are_as_before_after_a_command(number, code):
    before = [signal.getsignal(one) for one in SIGNALS], sys.unraisablehook
    assert ended(lambda: signal.raise_signal(number)).exit_code == code
    assert ([signal.getsignal(one) for one in SIGNALS], sys.unraisablehook) == before


def test_the_second_signal_is_left_to_the_system():
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            assert [signal.getsignal(one) for one in SIGNALS] == [signal.SIG_DFL] * 2

    assert ended(command).exit_code == 143


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable() as stop:
            signal.raise_signal(signal.SIGINT)
        assert stop.came is None
    finally:
        signal.signal(signal.SIGINT, before)
