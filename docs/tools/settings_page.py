"""docs/reference/settings.md: every setting of a training run, from `bridge.config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict
from typing import Any, get_type_hints

from bridge.config import PRESETS, TrainSettings, load_settings, setting_fields
from docs.tools.tables import cell, table

INTRO = """# Settings of training

Every setting is an option of [`mcr train`](cli.md#mcr-train) and of the other commands that train,
`retrieval_temperature` as `--retrieval-temperature`, and a line of a TOML file for `--config`:

```toml
objective = "tcl"
epochs = 12
tcl_learn_temperature = false    # on the command line: --no-tcl-learn-temperature
```

A preset comes first, the file goes over it, and options over both. A setting that the chosen
method does not have is refused. They are the fields of `bridge.TrainSettings`, in
[bridge/config.py](../../bridge/config.py) and
[bridge/tcl/settings.py](../../bridge/tcl/settings.py).
"""
ALL = "All methods"


def settings_page() -> str:
    """The whole page."""
    groups: dict[str, list[Field[Any]]] = {}
    for setting in setting_fields():
        groups.setdefault(_owners(setting.metadata), []).append(setting)
    lines = [INTRO, "## Presets\n", table(["preset", "differs from the defaults in"], _presets())]
    for owners, settings in groups.items():
        rows = [_row(setting) for setting in settings]
        lines += [f"\n## {owners}\n", table(["setting", "default", "values", ""], rows)]
    return "\n".join(lines)


def _presets() -> list[list[str]]:
    default = asdict(TrainSettings())
    rows = []
    for name in PRESETS:
        chosen = asdict(load_settings(preset=name))
        differing = [
            f"`{key} = {_toml(chosen[key])}`" for key in chosen if chosen[key] != default[key]
        ]
        usual = " (if nothing is chosen)" if load_settings() == load_settings(preset=name) else ""
        rows.append([f"`{name}`{usual}", ", ".join(differing) or "nothing"])
    return rows


def _owners(metadata: Mapping[str, Any]) -> str:
    names = metadata.get("of", "").split()
    return f"Of {', '.join(names)}" if names else ALL


def _row(setting: Field[Any]) -> list[str]:
    return [
        f"`{setting.name}`",
        "" if setting.default is None else f"`{_toml(setting.default)}`",
        _values(setting),
        cell(setting.metadata["help"]),
    ]


def _values(setting: Field[Any]) -> str:
    limits = setting.metadata
    if "choices" in limits:
        return ", ".join(f"`{one}`" for one in limits["choices"])
    signs = {"low": "≥", "above": ">", "high": "≤", "below": "<"}
    bounds = [f"{sign} {limits[key]}" for key, sign in signs.items() if key in limits]
    hint = get_type_hints(TrainSettings)[setting.name]
    plain = str(getattr(hint, "__name__", hint)).removesuffix(" | None")
    named = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    return ", ".join([named.get(plain, plain), *bounds])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
