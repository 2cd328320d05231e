"""`mcr run`: the journey by a recipe, and what is done again after a change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from features.memories.memory import Memory
from tests.cli.conftest import Workshop, done, mcr, write_table
from tests.cli.recipes import AFTER_TRAINING, STEPS, edit, files_below, made, run, write_recipe


@pytest.fixture(scope="module")
def finished(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe that was run."""
    folder = tmp_path_factory.mktemp("finished")
    assert made(run(write_recipe(workshop, folder))) == STEPS
    return folder


@pytest.fixture
def recipe(finished: Path, tmp_path: Path) -> Path:
    """A recipe that was run, in a folder of the test's own."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy" / "small.toml"


def test_the_steps_make_what_the_commands_make_byte_for_byte(workshop, finished):
    out = finished / "out"
    for name in ("text-sees", "text-hears", "images", "sounds"):
        assert (out / "memories" / f"{name}.h5").read_bytes() == (
            workshop.memory(name).read_bytes()
        ), name
    weights = "bridge.safetensors"
    assert (out / "bridges" / "out" / weights).read_bytes() == (
        workshop.sound_bridge / weights
    ).read_bytes()
    shared = Memory(out / "shared" / "images.h5")
    assert (shared.embeddings == Memory(workshop.memory("shared")).embeddings).all()
    assert (out / "evaluations" / "sounds-to-images.json").exists()


def test_without_a_change_everything_is_skipped_and_nothing_is_touched(recipe):
    before = files_below(recipe.parent)
    result = done("run", recipe)
    after = files_below(recipe.parent)
    assert {name: state for name, state in after.items() if before.get(name) != state} == {}
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[step, "skipped"] for step in STEPS]
    assert result.stderr.count("nothing has changed") == len(STEPS)


EDITS = {
    "epochs": (("epochs = 2", "epochs = 3"), AFTER_TRAINING, "epochs is 3, was 2"),
    "index": (('kind = "flat"', 'kind = "hnsw"'), ["index/images"], "kind is hnsw, was flat"),
    "evaluation": (
        ("resamples = 50", "resamples = 60"), ["eval/sounds-to-images"], "resamples is 60, was 50"
    ),
    "extraction": (
        ('modality = "image"', 'modality = "image"\ndtype = "float32"'),
        ["extract/images", *AFTER_TRAINING],
        "dtype is float32, was unset",
    ),
    "the device, which changes no result": (('device = "cpu"', 'device = "auto"'), [], ""),
    "a comment": (("[index]", "# of what?\n[index]"), [], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_does_again_exactly_what_depends_on_it(recipe, name):
    change, again, why = EDITS[name]
    edit(recipe, *change)
    told = run(recipe)
    assert made(told) == again
    whys = [step["why"] for step in told["steps"] if step["action"] != "skip"]
    assert whys[:1] == [why] * bool(again)
    assert made(run(recipe)) == []


def test_a_source_that_was_touched_is_embedded_again_and_the_same_embeddings_change_nothing(
    workshop, recipe
):
    picture = next((workshop.files / "images").iterdir())
    state = picture.stat()
    os.utime(picture, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    try:
        told = run(recipe)
    finally:
        os.utime(picture, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert made(told) == ["extract/images"]
    assert told["steps"][2]["why"].endswith("images.csv has changed")


def test_outputs_that_are_gone_or_damaged_are_made_again(recipe):
    out = recipe.parent / "out"
    (out / "shared" / "images.h5").unlink()
    told = run(recipe)
    assert made(told) == ["project/images"]  # the same bytes again: the index stays
    assert "is not there" in told["steps"][5]["why"]
    content = (out / "memories" / "sounds.h5").read_bytes()
    (out / "memories" / "sounds.h5").write_bytes(content[: len(content) // 2])
    assert made(run(recipe)) == ["extract/sounds"]
    assert (out / "memories" / "sounds.h5").read_bytes() == content


def test_an_output_that_another_command_replaced_is_made_again(recipe, workshop):
    out = recipe.parent / "out" / "memories" / "images.h5"
    shutil.copy(workshop.memory("text-sees"), out)
    told = run(recipe)
    assert made(told) == ["extract/images"]
    assert told["steps"][2]["why"].endswith("images.h5 was changed by something else")


def test_force_from_and_only_choose_the_steps(recipe):
    assert made(run(recipe, "--only", "index", "--force")) == ["index/images"]
    assert made(run(recipe, "--from", "project", "--force")) == STEPS[5:]
    told = run(recipe, "--only", "train", "--only", "extract/images")
    assert [step["step"] for step in told["steps"]] == ["extract/images", "train"]
    assert made(told) == []
    edit(recipe, "epochs = 2", "epochs = 3")
    assert made(run(recipe, "--from", "index")) == []  # what comes before is left as it is
    assert made(run(recipe)) == AFTER_TRAINING


def test_a_step_whose_input_is_not_there_says_which_step_makes_it(workshop, tmp_path):
    recipe = write_recipe(workshop, tmp_path)
    result = mcr("run", recipe, "--only", "train")
    assert result.exit_code == 1
    assert (
        "error: train needs out/memories/text-hears.h5, which extract/text-hears has not made yet"
        in result.stderr
    )
    result = mcr("run", recipe, "--only", "trian")
    assert result.exit_code == 2
    assert "--only trian is no step of small.toml (did you mean train?): " in result.stderr


def test_files_that_are_not_the_recipes_are_kept_if_they_are_its_result_or_else_refused(
    workshop, tmp_path
):
    recipe = write_recipe(workshop, tmp_path)
    memories = tmp_path / "out" / "memories"
    memories.mkdir(parents=True)
    mine = memories / "text-sees.h5"
    shutil.copy(workshop.memory("text-sees"), mine)
    before = mine.stat().st_mtime_ns
    told = run(recipe, "--only", "extract/text-sees")
    assert [step["action"] for step in told["steps"]] == ["keep"]
    assert mine.stat().st_mtime_ns == before
    shutil.copy(workshop.memory("sounds"), memories / "images.h5")
    result = mcr("run", recipe, "--only", "extract/images")
    assert result.exit_code == 1
    assert "images.h5 is there but is not what this recipe makes" in result.stderr
    assert (memories / "images.h5").read_bytes() == workshop.memory("sounds").read_bytes()
    shared = tmp_path / "out" / "shared" / "images.h5"
    shared.parent.mkdir()
    shutil.copy(workshop.memory("shared"), shared)
    assert made(run(recipe, "--only", "extract", "--force")) == STEPS[:4]
    assert made(run(recipe, "--only", "train")) == ["train"]
    result = mcr("run", recipe)
    assert result.exit_code == 1
    assert "project/images: out/shared/images.h5 is there but was not made by this" in result.stderr
    assert made(run(recipe, "--only", "project", "--force")) == ["project/images"]


def test_items_that_fail_are_counted_and_told_again_when_their_step_is_skipped(workshop, tmp_path):
    files = tmp_path / "pictures"
    shutil.copytree(workshop.files / "images", files)
    (files / "broken.png").write_text("no picture")
    recipe = tmp_path / "one.toml"
    recipe.write_text(
        f'device = "cpu"\n[memory.images]\nextract = "pictures"\nmodality = "image"\n'
        f'encoder = "{workshop.specs["sees"]}"\n'
    )
    told = run(recipe, code=3)
    assert [step["failed"] for step in told["steps"]] == [1]
    again = mcr("run", recipe)
    assert again.exit_code == 3
    assert "extract/images: 1 items failed and are listed in " in again.stderr
    (files / "broken.png").unlink()
    assert made(run(recipe)) == ["extract/images"]


def test_embeddings_of_ones_own_are_imported_and_memories_used_where_they_are(workshop, tmp_path):
    for name in ("text-sees", "text-hears"):
        done("export", workshop.memory(name), "-o", tmp_path / f"{name}.npy")
    ids = [[one] for one in Memory(workshop.memory("text-sees")).ids]
    write_table(tmp_path / "ids.csv", ["id"], ids)
    recipe = tmp_path / "own.toml"
    recipe.write_text(f"""
[import]
modality = "text"
ids = "ids.csv"
id_column = "id"
keep = ["none"]
[memory.one]
import = "text-sees.npy"
space = "sees"
[memory.two]
import = "text-hears.npy"
space = "hears"
[memory.images]
file = "{workshop.memory("images")}"
[train]
hub = ["one", "two"]
leaf = ["images"]
preset = "published"
dimension = 8
hidden = 16
epochs = 2
device = "cpu"
trust_encoder = true
""")
    assert made(run(recipe)) == ["import/one", "import/two", "train"]
    assert made(run(recipe)) == []
    write_table(tmp_path / "ids.csv", ["id", "row"], [[one, "0"] for (one,) in ids])
    assert made(run(recipe)) == ["import/one", "import/two"]  # the same ids


def test_settings_from_a_file_count_by_what_they_say(recipe):
    settings = recipe.parent / "settings.toml"
    settings.write_text("dimension = 8\nhidden = 16\nepochs = 2\n")
    edit(recipe, "dimension = 8\nhidden = 16\nepochs = 2\n", 'config = "settings.toml"\n')
    assert made(run(recipe)) == []
    settings.write_text("# smaller\ndimension = 8\nhidden = 16\nepochs = 2\n")
    assert made(run(recipe)) == []
    settings.write_text("dimension = 8\nhidden = 12\nepochs = 2\n")
    assert made(run(recipe))[0] == "train"


def test_paths_are_relative_to_the_recipe_wherever_it_is_run_from(recipe, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert made(run(Path("..") / "copy" / recipe.name)) == []
    assert Path.cwd() == elsewhere
    assert list(elsewhere.iterdir()) == []


def test_two_recipes_do_not_share_a_folder(recipe):
    other = recipe.with_name("other.toml")
    shutil.copy(recipe, other)
    result = mcr("run", other)
    assert result.exit_code == 1
    assert "out holds what small.toml made, and this recipe is other.toml: give" in result.stderr
    recipe.unlink()  # it was renamed
    assert made(run(other)) == []


def test_a_damaged_journal_is_told(recipe):
    (recipe.parent / "out" / "journal.json").write_text('{"format": ')
    result = mcr("run", recipe)
    assert result.exit_code == 1
    assert "error: out/journal.json is damaged (" in result.stderr


def test_an_encoder_of_ones_own_is_known_by_its_file(workshop, tmp_path):
    module = tmp_path / "my_encoder_of_recipes.py"
    module.write_text(
        "from features.encoders.mini.encoder import load_file\n\n\n"
        "def load(argument, *, device, precision):\n"
        f"    return load_file({str(workshop.specs['sees']).partition(':')[2]!r}, device=device)\n"
    )
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'device = "cpu"\n[memory.texts]\nextract = "{workshop.files / "texts.csv"}"\n'
        'encoder = "my_encoder_of_recipes:load"\nmodality = "text"\n'
    )
    assert made(run(recipe)) == ["extract/texts"]
    assert made(run(recipe)) == []
    module.write_text(module.read_text() + "# better\n")
    told = run(recipe)
    assert made(told) == ["extract/texts"]
    assert told["steps"][0]["why"].endswith("my_encoder_of_recipes.py has changed")
