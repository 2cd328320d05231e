"""docs/reference/python.md: signatures and docstrings, read from the sources."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import bridge
from docs.tools.links import ROOT
from docs.tools.tables import cell

INTRO = """# Python

Everything that the commands do is a function; `import bridge` loads neither torch nor faiss until
something is used. Arrays and tensors say their shapes as
[jaxtyping](https://docs.kidger.site/jaxtyping/) does: `Float[Tensor, "n d"]` has n rows of d
numbers. What the user can put right is a `features.errors.UserError`.
"""
EVERYTHING = "*"  # of a module that is public
# Names that a section documents, by module. Those of `bridge` itself come from its `__all__`.
SECTIONS: dict[str, dict[str, str]] = {
    "Memories": {
        "features.memories.memory": "Memory MemoryHeader",
        "features.memories.writing": "save_memory",
        "features.space": "Space",
        "features.errors": EVERYTHING,
    },
    "Files to memories": {
        "features.extraction.items": "Item Source",
        "features.extraction.sources": "read_source",
        "features.extraction.extract": "Extraction extract",
        "features.encoders": "EncoderDescription Encoder LocalEmbeddings LocalEncoder load_encoder",
        "features.exchange.importing": "Imported import_memory",
        "features.exchange.exporting": "export_memory",
    },
    "Indices": {
        "features.search.index": "Hit Index open_index",
        "features.search.building": "build_index",
    },
    "Evaluation": {
        "features.datasets": "read_annotations",
        "bridge.evaluation.results": "Result write_result read_result",
        "bridge.evaluation.retrieval_result": "retrieval_result",
        "bridge.evaluation.zero_shot": "zero_shot_result",
        "bridge.evaluation.localisation": "localisation_result",
        "bridge.evaluation.counterfactual": "counterfactual_result",
        "bridge.evaluation.diagnostics": "diagnostics_result",
        "bridge.evaluation.compared": "ComparedResults compare_results",
    },
    "Formulas: pseudo pairs and noise": {
        "bridge.pseudo_pairs.exact": "retrieve leaf_centred",
        "bridge.training.noise": EVERYTHING,
        "bridge.training.objective": "cmcr_terms",
    },
    "Formulas: losses": {
        f"bridge.losses.{name}": EVERYTHING
        for name in ("info_nce", "intra", "cwcl", "soft_targets", "contrast", "matching")
    },
    "Formulas: closed forms and routing": {
        "bridge.methods.closed_forms": EVERYTHING,
        "bridge.methods.anchors": EVERYTHING,
        "bridge.methods.routing": EVERYTHING,
    },
    "Formulas: metrics": {
        f"bridge.metrics.{name}": EVERYTHING
        for name in ("retrieval", "classification", "maps", "recognition", "spaces", "bootstrap")
    },
}
Definition = ast.FunctionDef | ast.ClassDef


def python_page() -> str:
    """The whole page."""
    own: dict[str, str] = {}
    for name in bridge.__all__:
        home = bridge._HOMES[name]
        own[home] = f"{own.get(home, '')} {name}".strip()
    sections = {"Bridges: `import bridge`": own, **SECTIONS}
    return "\n\n".join([INTRO.strip(), *(_section(*one) for one in sections.items())])


def _section(title: str, modules: dict[str, str]) -> str:
    return "\n\n".join([f"## {title}", *(_module(*one) for one in modules.items())])


def _module(module: str, names: str) -> str:
    path = _path(module)
    tree, lines = _parsed(path)
    defined = {one.name: one for one in tree.body if isinstance(one, Definition)}
    if names == EVERYTHING:
        wanted = [name for name in defined if not name.startswith("_")]
    else:
        wanted = names.split()
    where = path.relative_to(ROOT).as_posix()
    # Formulas are explained once for the module: axes, norms, sources.
    told = [_docstring(tree)] if names == EVERYTHING else []
    parts = [_definition(defined[name], lines, level=4) for name in wanted]
    return "\n\n".join([f"### `{module}`", f"[{where}](../../{where})", *told, *parts])


def _definition(node: Definition, lines: list[str], *, level: int) -> str:
    told = [f"{'#' * level} `{node.name}`", f"```python\n{_signature(node, lines)}\n```"]
    told.append(_docstring(node))
    if isinstance(node, ast.ClassDef):
        told += [_definition(one, lines, level=level + 1) for one in _methods(node)]
    return "\n\n".join(part for part in told if part)


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
            yield one


def _signature(node: Definition, lines: list[str]) -> str:
    """The source up to the body; of a class its fields as well, and how it is made."""
    decorators = [f"@{ast.unparse(one)}" for one in node.decorator_list]
    head = _source(node.lineno, node.body[0].lineno - 1, lines)
    if isinstance(node, ast.FunctionDef):
        return "\n".join([*decorators, head])
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    parts = [_field(one, lines) for one in fields]
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            parts.append(_source(one.lineno, one.body[0].lineno - 1, lines))
    body = "\n".join(inspect.cleandoc(part) for part in parts)
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return "\n".join([*decorators, head, *([indented] if body else [])])


def _field(node: ast.AnnAssign, lines: list[str]) -> str:
    text = _source(node.lineno, node.end_lineno or node.lineno, lines)
    declared = isinstance(node.value, ast.Call)  # a setting's limits and help
    return f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}" if declared else text


def _source(first: int, last: int, lines: list[str]) -> str:
    text = [line.rstrip() for line in lines[first - 1 : last]]
    indent = len(text[0]) - len(text[0].lstrip())
    return "\n".join(line[indent:] for line in text if line.strip())


def _docstring(node: ast.Module | Definition) -> str:
    text = ast.get_docstring(node) or ""
    parts = re.split(r"((?:^>>> .*\n?)(?:^.+\n?)*)", text, flags=re.MULTILINE)
    told = [
        f"```pycon\n{part.strip()}\n```" if part.startswith(">>>") else cell(part.strip())
        for part in parts
    ]
    return "\n\n".join(part for part in told if part)


@cache
def _parsed(path: Path) -> tuple[ast.Module, list[str]]:
    text = path.read_text(encoding="utf-8")
    return ast.parse(text), text.splitlines()


def _path(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module} is in the reference but not in the code")
    return Path(spec.origin)
