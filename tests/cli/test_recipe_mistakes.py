"""Recipes with mistakes: one sentence with the place in the file, before anything is computed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Workshop, mcr
from tests.cli.recipes import edit, files_below, write_recipe
from tests.cli.refusals import sentence_of

WRONG_USAGE, MISTAKE = 2, 1
# name: what is replaced, by what, exit code, how the line begins that is told, and what is told
EDITS = {
    "unknown table": (
        "[project]", "[projekt]", WRONG_USAGE,
        "[projekt]", "a recipe has no key 'projekt' (did you mean project?): its keys are",
    ),
    "unknown key": (
        "epochs = 2", "epoch = 2", WRONG_USAGE,
        "epoch = 2", "[train] has no key 'epoch' (did you mean epochs?): `mcr train --help` lists ",
    ),
    "unknown key of a memory": (
        'id_column = "key"\n\n[memory.sounds]', 'idcolumn = "key"\n\n[memory.sounds]', WRONG_USAGE,
        "idcolumn", "[memory.images] has no key 'idcolumn' (did you mean id_column?): its",
    ),
    "a key that the recipe decides": (
        'kind = "flat"', "overwrite = true", WRONG_USAGE,
        "overwrite", "[index] has no key 'overwrite': its keys are kind, memories",
    ),
    "unknown memory": (
        'query = "sounds"', 'query = "sonds"', WRONG_USAGE,
        "query", "query of [eval.sounds-to-images] names 'sonds', which is neither a "
        "memory of this recipe (did you mean sounds?) nor a file: its memories are text-sees, ",
    ),
    "unknown hub": (
        'hub = ["text-hears", "text-sees"]', 'hub = ["text-hear", "text-sees"]', WRONG_USAGE,
        "hub", "hub of [train] names 'text-hear', which is neither a memory of this "
        "recipe (did you mean text-hears?) nor a file",
    ),
    "one hub": (
        'hub = ["text-hears", "text-sees"]', 'hub = ["text-hears"]', MISTAKE,
        "hub", "hub of [train] names 1 memories: name two",
    ),
    "no hub": (
        'hub = ["text-hears", "text-sees"]', "", MISTAKE,
        "[train]", "[train] needs either hub or pairs, a list of the names of two memo",
    ),
    "not a list": (
        'leaf = ["sounds", "images"]', 'leaf = "sounds"', MISTAKE,
        "leaf", "leaf of [train] is 'sounds' but must be a list of which each is a st",
    ),
    "wrong type": (
        "epochs = 2", 'epochs = "2"', MISTAKE,
        "epochs", "epochs of [train] is '2' but must be a whole number",
    ),
    "wrong type of a number": (
        "resamples = 50", "resamples = true", MISTAKE,
        "resamples", "resamples of [eval.sounds-to-images] is True but must be a whole num",
    ),
    "too small": (
        "resamples = 50", "resamples = -1", MISTAKE,
        "resamples", "resamples of [eval.sounds-to-images] is -1 but must be at least 0",
    ),
    "a setting out of range": (
        "epochs = 2", "epochs = 0", MISTAKE,
        "epochs", "the setting epochs is 0 but must be at least 1",
    ),
    "a setting of another method": (
        "epochs = 2", 'method = "cca"', MISTAKE,
        "hidden", "the setting hidden is 16 but belongs to cmcr and cwcl and distil and tcl",
    ),
    "unknown choice": (
        'modality = "image"', 'modality = "images"', WRONG_USAGE,
        "modality", "modality of [memory.images] is 'images' but must be one of text, "
        "image, audio, points (did you mean image?)",
    ),
    "unknown preset": (
        'preset = "published"', 'preset = "besst"', WRONG_USAGE,
        "preset", "preset of [train] is 'besst' but must be one of published, best (did you",
    ),
    "unknown method": (
        "epochs = 2", 'method = "proscrutes"', WRONG_USAGE,
        "method", "the setting method is 'proscrutes' but must be one of projectors, procrustes, ",
    ),
    "unknown protocol": (
        "resamples = 50", 'protocol = "retreival"', WRONG_USAGE,
        "protocol", "protocol of [eval.sounds-to-images] is 'retreival' but must be one of"
        " retrieval, zero-shot, localisation, counterfactual, diagnostics (did you mean r",
    ),
    "memory without a source": (
        'file = "there.h5"', "", MISTAKE,
        "[memory.there]", "[memory.there] has no source: give one of extract = a folder, list",
    ),
    "memory of two sources": (
        'file = "there.h5"', 'file = "there.h5"\nimport = "there.npy"', MISTAKE,
        "[memory.there]", "[memory.there] has import and file: give one of extract = a folder,",
    ),
    "a memory outside of the folder": (
        '[memory.there]\nfile = "there.h5"',
        '[memory."../../x"]\nimport = "small.toml"', MISTAKE,
        '[memory."../../x"]', "'../../x' of [memory] cannot be the name of its file: use letters",
    ),
    "an evaluation outside of the folder": (
        "[eval.sounds-to-images]", '[eval."/x"]', MISTAKE,
        '[eval."/x"]', "'/x' of [eval] cannot be the name of its file: use letters, digits, '.'",
    ),
    "missing memory": (
        'file = "there.h5"', 'file = "gone.h5"', MISTAKE,
        "file", "file of [memory.there] is 'gone.h5', which is no file: mend the path",
    ),
    "missing source": (
        'file = "there.h5"', 'extract = "gone"\nencoder = "mini-clip"\nmodality = "text"', MISTAKE,
        "extract", "extract of [memory.there] is gone, which does not exist: mend the ",
    ),
    "unknown encoder": (
        'file = "there.h5"', 'extract = "small.toml"\nencoder = "mini-clop"\nmodality = "text"',
        WRONG_USAGE,
        "encoder", "'mini-clop' is not an encoder (did you mean mini-clip?), these are: cl",
    ),
    "encoder left out": (
        'file = "there.h5"', 'extract = "small.toml"\nmodality = "text"', MISTAKE,
        "[memory.there]", "[memory.there] lacks encoder: add it",
    ),
    "conditions that are none": (
        'file = "there.h5"',
        'extract = "small.toml"\nencoder = "mini-clip"\nmodality = "text"\nwhere = ["train"]',
        MISTAKE,
        "where", "where of [memory.there] is ['train'] but must read COLUMN=VALUE",
    ),
    "missing file of settings": (
        "epochs = 2", 'config = "gone.toml"', MISTAKE,
        "config", "settings file gone.toml does not exist: check the path",
    ),
    "index of what is not projected": (
        'kind = "flat"', 'memories = ["sounds"]', MISTAKE,
        "memories", "sounds is to be indexed but is not projected: name it in memories of",
    ),
    "a value for a table": (
        "[index]\n", "", WRONG_USAGE,
        "kind", "[project] has no key 'kind'",
    ),
    "a list for the folder": (
        'folder = "out"', 'folder = ["out"]', MISTAKE,
        "folder", "folder is ['out'] but must be a string",
    ),
    "no TOML": (
        'folder = "out"', "folder = out", MISTAKE,
        "folder = out", "`folder = out` is not TOML, as its value is of no kind: put texts in",
    ),
    "a text without an end": (
        'folder = "out"', 'folder = "out', MISTAKE,
        'folder = "out', "`folder = \"out` is not TOML, as a text has no end in this line: close",
    ),
    "a key twice": (
        'folder = "out"', 'folder = "out"\nfolder = "in"', MISTAKE,
        'folder = "in"', "`folder = \"in\"` is not TOML, as the key is there already: keep one",
    ),
    "a list without an end": (
        'hub = ["text-hears", "text-sees"]', 'hub = ["text-hears", "text-sees"', MISTAKE,
        "leaf", "`leaf = [\"sounds\", \"images\"]` is not TOML, as a list has no end: close it wi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_a_mistake_is_told_with_its_place_before_anything_is_computed(workshop, tmp_path, name):
    old, new, code, place, told = EDITS[name]
    recipe = write_recipe(workshop, tmp_path)
    shutil.copy(workshop.memory("sounds"), tmp_path / "there.h5")
    recipe.write_text(recipe.read_text() + '\n[memory.there]\nfile = "there.h5"\n')
    edit(recipe, old, new)
    before = files_below(tmp_path)
    result = mcr("run", recipe)
    sentence = sentence_of(result.stderr)
    if place:
        where, _, sentence = sentence.partition(": ")
        line = recipe.read_text().splitlines()[int(where.removeprefix("small.toml, line ")) - 1]
        assert line.startswith(place), where
    assert sentence.startswith(told), sentence
    assert result.exit_code == code
    assert result.stdout == ""
    assert files_below(tmp_path) == before


def test_a_recipe_that_is_not_there_or_says_nothing(tmp_path):
    result = mcr("run", tmp_path / "gone.toml")
    assert (result.exit_code, sentence_of(result.stderr)) == (
        1, f"recipe {tmp_path / 'gone.toml'} does not exist: check the path"
    )  # fmt: skip
    (tmp_path / "there.toml").write_text("")
    result = mcr("run", tmp_path / "there")
    assert sentence_of(result.stderr).endswith(f"did you mean {tmp_path / 'there.toml'}?")
    (tmp_path / "empty.toml").write_text("# nothing yet\n")
    result = mcr("run", tmp_path / "empty.toml")
    assert sentence_of(result.stderr) == "empty.toml has no step: write one with `mcr init`"


def test_a_step_that_fails_is_named_and_what_was_done_before_stays(
    workshop: Workshop, tmp_path: Path
):
    recipe = write_recipe(workshop, tmp_path)
    edit(recipe, "preset =", "patience = 2\nholdout = 0.0\npreset =")
    result = mcr("run", recipe)
    assert result.exit_code == 1
    assert sentence_of(result.stderr).startswith("train: patience is 2 but no hub items are held")
    assert (tmp_path / "out" / "memories" / "sounds.h5").exists()
    edit(recipe, "patience = 2\nholdout = 0.0\n", "")
    again = mcr("run", recipe)
    assert again.exit_code == 0
    assert again.stdout.count("skipped") == 4
