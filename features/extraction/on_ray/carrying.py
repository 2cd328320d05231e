"""Code of the user's on machines that do not have it: sent along, as Ray sends functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.encoders import ENCODERS
from features.encoders.own import own_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.encoders import ItemInput

_SENDER = "ray.cloudpickle"


@contextmanager
def carried(spec: str) -> Iterator[None]:
    """In the block, Ray sends the code of the module of the user's that `spec` names, if any."""
    module = own_module(spec, ENCODERS)
    if module is None:
        yield
        return
    sender: Any = import_module(_SENDER)
    package = sys.modules[module.partition(".")[0]]
    sender.register_pickle_by_value(package)
    try:
        yield
    finally:
        sender.unregister_pickle_by_value(package)


class CarriedInput:
    """An encoder's input function for processes that cannot import its module.

    Ray's workers can unpack it, and so can the processes that these start.
    """

    def __init__(self, content: bytes, imports: tuple[str, ...]) -> None:
        self.content = content
        self.imports = (_SENDER, *imports)
        self._make_input: ItemInput | None = None

    @classmethod
    def of(cls, make_input: ItemInput) -> CarriedInput:
        """What can be sent of `make_input`."""
        imports = getattr(make_input, "imports", ())
        return cls(import_module(_SENDER).dumps(make_input), tuple(imports))

    def __reduce__(self) -> tuple[Any, ...]:
        return CarriedInput, (self.content, self.imports[1:])

    def __call__(self, item: str | Path) -> NDArray[Any]:
        if self._make_input is None:
            self._make_input = import_module(_SENDER).loads(self.content)
        return self._make_input(item)
