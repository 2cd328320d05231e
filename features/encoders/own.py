"""Finding an encoder by name: the families here, other packages' entry points, the user's code."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from features.errors import UnknownNameError, UserError
from features.suggest import did_you_mean

GROUP = "mcr_bridge.encoders"
_ATTRIBUTE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.\w+)*):(?P<attribute>[A-Za-z_]\w*)")
_CALLED = "load(argument, device=, precision=)"
_TRACEBACK_LINES = 6  # that are told of a mistake in someone's code
_PART_LINES = 3  # of these, at most for the message, and for each place: file, code, marks

Loader = Callable[..., Any]


def find_loader(
    spec: str, families: Mapping[str, str], *, own_code: bool = True
) -> tuple[Loader, str]:
    """The loader that `spec` names, and the argument to call it with.

    Raises UnknownNameError if there is none, UserError if it cannot be loaded.
    """
    name, _, argument = spec.partition(":")
    if name in families:
        module, _, attribute = families[name].partition(":")
        return getattr(import_module(module), attribute), argument
    points = installed_encoders()
    if name in points:
        return _from_entry_point(points[name]), argument
    own = _own(spec)
    if own:
        if not own_code:
            raise UserError(
                f"a file names the encoder {spec}, which would import the module {own['module']} "
                "and run it, and files are not trusted so far"
            )
        loader = _from_module(own["module"], own["attribute"], spec)
        return loader, spec[own.end() + 1 :]
    raise _unknown(spec, [*families, *points])


def require_known(spec: str, families: Iterable[str]) -> None:
    """Raise UnknownNameError unless `spec` names an encoder, without importing anything of it."""
    known = [*families, *installed_encoders()]
    if spec.partition(":")[0] not in known and not _own(spec):
        raise _unknown(spec, known)


def own_file(spec: str) -> Path | None:
    """The file, or the package's folder, of a spec MODULE:ATTRIBUTE, found without importing it."""
    own = _own(spec)
    if own is None:
        return None
    places = [*sys.path, str(Path.cwd())]
    found = PathFinder.find_spec(own["module"].partition(".")[0], places)
    if found is None or found.origin is None:
        return None
    file = Path(found.origin)
    return file.parent if file.name == "__init__.py" else file


def own_module(spec: str, families: Iterable[str]) -> str | None:
    """The module of the user's that `spec` names, None if it is another's encoder."""
    own = _own(spec)
    known = spec.partition(":")[0] in (*families, *installed_encoders())
    return None if own is None or known else own["module"]


def _own(spec: str) -> re.Match[str] | None:
    own = _ATTRIBUTE.match(spec)
    return own if own and spec[own.end() :][:1] in ("", ":") else None


def _unknown(spec: str, known: Sequence[str]) -> UnknownNameError:
    meant = did_you_mean(spec.partition(":")[0], known)
    return UnknownNameError(
        f"'{spec}' is not an encoder{meant}, these are: {', '.join(known)}, or MODULE:ATTRIBUTE "
        "of your own; see `mcr encoders`. Embeddings that are made already become a memory with "
        "`mcr import`"
    )


def installed_encoders() -> dict[str, EntryPoint]:
    """Encoders that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def failed_to_load(spec: str, error: Exception) -> UserError:
    """What to tell of an exception in the code of an encoder's author, and where it was."""
    lines = "".join(traceback.format_exception_only(error)).splitlines()[:_PART_LINES]
    for place in reversed(traceback.format_tb(error.__traceback__)):
        above = place.splitlines()[:_PART_LINES]
        if len(above) + len(lines) > _TRACEBACK_LINES:
            break
        lines = above + lines
    told = ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())]))
    return UserError(
        f"the encoder {spec} failed to load ({told}): mend its code",
        details="\n".join(f"  {line}" for line in lines),
    )


def _from_entry_point(point: EntryPoint) -> Loader:
    try:
        return _callable(point.load(), point.value)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the encoder {point.name} cannot be loaded from {point.value} ({error}): install "
            "the package that offers it again"
        ) from error
    except UserError:
        raise
    except Exception as error:  # the module is the package's own, and may raise anything
        raise failed_to_load(point.name, error) from error


def _from_module(module: str, attribute: str, spec: str) -> Loader:
    found = _import(module, spec)
    if not hasattr(found, attribute):
        raise UserError(f"the module {module} has no '{attribute}': check the encoder {spec}")
    return _callable(getattr(found, attribute), spec)


def _import(module: str, spec: str) -> Any:
    """Import a module, also from the current folder, behind everything that is installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name is not None
        if not absent or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(
                f"{module} cannot be imported ({error}): install what it needs"
            ) from error
        raise UserError(
            f"'{spec}' is neither a known encoder (see `mcr encoders`) nor a module of yours: no "
            f"module {module} is installed or lies in {here}"
        ) from error
    except UserError:
        raise
    except Exception as error:  # the module is the user's own, and may raise anything
        raise failed_to_load(spec, error) from error


def _callable(found: Any, spec: str) -> Loader:
    if not callable(found):
        raise UserError(
            f"{spec} is of type {type(found).__name__} and cannot be called: name a function "
            f"{_CALLED} that returns an encoder, see docs/own-encoders.md"
        )
    try:
        inspect.signature(found).bind("", device="", precision="")
    except ValueError:
        pass  # what is written in C may have no signature
    except TypeError as error:
        raise UserError(
            f"{spec} cannot be called as {_CALLED} ({error}): name a function that can, see "
            "docs/own-encoders.md"
        ) from error
    return found  # type: ignore[no-any-return]
