"""Extraction on Ray gives what one process gives, whoever is killed, and says what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from features.encoders import Encoder, load_encoder
from features.errors import ItemError, UserError
from features.extraction.extract import Extraction, extract
from features.extraction.items import Source
from features.extraction.on_ray.cluster import _require_answer, connected
from features.extraction.on_ray.engine import ray_engine
from features.extraction.on_ray.packing import pack, raise_error, unpack
from features.extraction.on_ray.stages import (
    MOST_ATTEMPTS,
    Attempts,
    Embed,
    Embedding,
    EncoderRecipe,
    Items,
)
from features.extraction.sources import read_source
from features.extras import installed
from features.memories.memory import MemoryHeader
from features.memories.strings import StringColumn
from features.progress import Advance
from features.ray_tasks import RayTasks
from tests.features.helpers import FakeEncoder, StopAfter, files_of

pytestmark = pytest.mark.skipif(not installed("ray"), reason="needs the extra [ray]")
ROOT = Path(__file__).parents[3]
BATCHES, BATCH = 16, 4
# A module of the user's. It is written where Ray's workers do not look for modules. Every process
# that decodes or embeds leaves a file with its name in the folder that is the argument.
MODULE = """
import os
import signal
import time
from pathlib import Path

import numpy as np

from features.encoders import EncoderDescription
from features.errors import ItemError
from features.space import Space


class Lengths:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, text):
        (Path(self.folder) / f"decoder-{os.getpid()}").touch()
        if "bad" in text:
            raise ItemError("it is bad")
        if "deadly" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.frombuffer(text.encode().ljust(32)[:32], dtype=np.uint8).astype(np.float32)


class Slow:
    def __init__(self, folder):
        import torch

        (Path(folder) / f"encoder-{os.getpid()}").touch()
        self.folder = folder
        self.space = Space("slow", 8, ("text",))
        self.description = EncoderDescription("slow", f"slow_encoder:load:{folder}", "w", ("text",))
        self.matrix = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))

    def input(self, modality):
        return Lengths(self.folder)

    def encode(self, batch, modality):
        import torch

        time.sleep(0.5 if (Path(self.folder) / "slowly").exists() else 0.1)
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(batch)) @ self.matrix, dim=1)


def load(argument, *, device, precision):
    return Slow(argument)
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with connected("local") as found:
        yield found


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module `slow_encoder` and a folder for the names of its processes."""
    (tmp_path / "slow_encoder.py").write_text(MODULE)
    (tmp_path / "pids").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("slow_encoder", None)


def spec(work: Path) -> str:
    return f"slow_encoder:load:{work / 'pids'}"


def write_source(work: Path) -> Source:
    """Sentences, one of which is bad, and one kills its decoder."""
    texts = [f"sentence number {i}" for i in range(BATCHES * BATCH - 1)]
    texts[2] = "a bad one"
    texts[41] = "a deadly one"
    (work / "texts.txt").write_text("\n".join(texts))
    return read_source(str(work / "texts.txt"), "text")


def locally(work: Path, source: Source, **options: Any) -> Path:
    """The folder of the same extraction without Ray."""
    folder = work / "local"
    folder.mkdir()
    encoder = load_encoder(spec(work))
    extract(source, encoder, "text", folder / "m.h5", batch_size=BATCH, **options)
    return folder


def on_ray(work: Path, source: Source, **options: Any) -> Extraction:
    (work / "ray").mkdir(exist_ok=True)
    with ray_engine(spec(work), actors=2) as engine:
        return extract(
            source, engine.encoder("text"), "text", work / "ray/m.h5", batch_size=BATCH,
            engine=engine, **options,
        )  # fmt: skip


def processes(work: Path, kind: str) -> list[int]:
    """Those that decoded or embedded, but for this one."""
    found = [int(one.name.partition("-")[2]) for one in (work / "pids").glob(f"{kind}-*")]
    return [pid for pid in found if pid != os.getpid()]


class Meddle:
    """A progress that calls `do` when batch number `at` is done."""

    def __init__(self, at: int, do: Callable[[], None]) -> None:
        self.at, self.do = at, do

    @contextmanager
    def task(
        self,
        description: str,  # noqa: ARG002
        total: int,  # noqa: ARG002
        *,
        unit: str = "items",  # noqa: ARG002
        done: int = 0,  # noqa: ARG002
    ) -> Iterator[Advance]:
        def advance(count: int) -> None:  # noqa: ARG001
            self.at -= 1
            if self.at == 0:
                self.do()

        yield advance


def test_a_killed_worker_and_a_deadly_item_change_nothing(ray: Any, work: Path) -> None:  # noqa: ARG001
    source = write_source(work)
    (work / "ray").mkdir()
    with pytest.raises(KeyboardInterrupt):  # begun without Ray
        extract(source, load_encoder(spec(work)), "text", work / "ray/m.h5", batch_size=BATCH,
                progress=StopAfter(2), workers=0)  # fmt: skip
    killed: list[int] = []

    def kill() -> None:
        killed.append(processes(work, "encoder")[0])
        os.kill(killed[0], signal.SIGKILL)

    done = on_ray(work, source, progress=Meddle(3, kill))
    assert done.resumed_from == 2 * BATCH
    assert len(processes(work, "encoder")) == 3  # two actors, and one in the place of the killed
    assert [(one.item, one.reason) for one in done.failures] == [
        ("a bad one", "it is bad"),
        ("a deadly one", "the decoding process died on it (signal 9, out of memory?)"),
    ]
    assert files_of(work / "ray") == files_of(locally(work, source, workers=1))


def test_ctrl_c_ends_every_process_and_the_rest_is_done_without_ray(ray: Any, work: Path) -> None:  # noqa: ARG001
    source = write_source(work)
    arguments = ["extract", "texts.txt", "-e", spec(work), "-m", "text", "-o", "ray/m.h5",
                 "--batch-size", str(BATCH), "--engine", "ray", "--ray-actors", "1"]  # fmt: skip
    (work / "ray").mkdir()
    (work / "pids/slowly").touch()
    journal = work / "ray/m.h5.partial/journal.jsonl"
    code = "import sys; sys.argv[0] = 'mcr'; from cli.main import run; run()"
    driver = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "stopped: run the same command again to continue" in told
    assert "Traceback" not in told
    assert not [pid for pid in processes(work, "encoder") if Path(f"/proc/{pid}").exists()]
    done = journal.read_bytes().count(b"\n")
    assert done < BATCHES
    (work / "pids/slowly").unlink()
    finished = extract(source, load_encoder(spec(work)), "text", work / "ray/m.h5",
                       batch_size=BATCH, workers=1)  # fmt: skip
    assert finished.resumed_from == BATCH * done
    assert files_of(work / "ray") == files_of(locally(work, source, workers=1))


def test_an_extraction_that_only_has_to_be_written_is(ray: Any, work: Path) -> None:  # noqa: ARG001
    source = write_source(work)
    (work / "ray").mkdir()
    with pytest.raises(KeyboardInterrupt):
        extract(source, load_encoder(spec(work)), "text", work / "ray/m.h5", batch_size=BATCH,
                progress=StopAfter(BATCHES), workers=1)  # fmt: skip
    assert on_ray(work, source).resumed_from == len(source.items)
    assert len(list((work / "ray").iterdir())) == 2


def load_fake(argument: str, *, device: str, precision: str) -> FakeEncoder:  # noqa: ARG001
    return FakeEncoder()


def embedding(ray: Any, encoder: Encoder, attempts: Any = None, **described: Any) -> Any:
    """What an actor would be given, in Ray's store."""
    description = encoder.description.as_dict()
    header = MemoryHeader("slow", "text", 8, encoder=description)
    recipe = EncoderRecipe("fake", load_fake, "", "cpu", "fp32")
    items = ray.put(Items(StringColumn.of(["one"]), None, BATCH))
    return ray.put(Embedding(items, attempts, recipe, header, {**description, **described}, 1))


def test_a_worker_with_another_encoder_is_refused(ray: Any) -> None:
    actor = Embed(embedding(ray, FakeEncoder(), weights="others"))
    answer = actor(pack(0, [np.zeros(32, np.float32)])).to_pydict()
    with pytest.raises(
        UserError, match=r"a worker has another encoder .* \(weights\): install"
    ) as e:
        raise_error(answer["error"][0])
    assert "others" in e.value.details


def test_a_batch_whose_workers_are_lost_again_and_again_ends_the_run(ray: Any) -> None:
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    actor = Embed(embedding(ray, FakeEncoder(), attempts))
    answers = [
        actor(pack(0, [np.ones(32, np.float32)])).to_pydict() for _ in range(MOST_ATTEMPTS + 1)
    ]
    assert [bool(one["error"][0]) for one in answers] == [False] * MOST_ATTEMPTS + [True]
    with pytest.raises(
        UserError, match=r"embeds batch 0 \(from one\) was lost 5 times: it may need"
    ):
        raise_error(answers[-1]["error"][0])


def test_a_worker_can_describe_the_encoder_to_a_machine_without_it(ray: Any, work: Path) -> None:  # noqa: ARG001
    here = load_encoder(spec(work))
    with ray_engine(spec(work)) as engine:
        told = engine.described("text")
    assert (told.space, told.description) == (here.space, here.description)
    np.testing.assert_array_equal(told.input("text")("one"), here.input("text")("one"))
    with pytest.raises(UserError, match="the encoder slow is on the workers of Ray alone"):
        told.encode([], "text")


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [ItemError("first"), np.arange(6.0).reshape(2, 3), ItemError("last")],
        [np.array("wörds"), np.zeros((0, 3), np.int16), np.asfortranarray(np.eye(3)[:, :2])],
    ],
)
def test_a_packed_batch_is_what_it_was(arrays: list[Any]) -> None:
    number, found = unpack(pack(7, arrays))
    assert number == 7
    for one, other in zip(arrays, found, strict=True):
        if isinstance(one, ItemError):
            assert str(one) == str(other)
        else:
            np.testing.assert_array_equal(one, other)
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert other.flags.writeable


def test_arrays_of_python_objects_are_refused() -> None:
    with pytest.raises(UserError, match="arrays of Python objects, which do not travel"):
        pack(0, [np.array([{}])])


def test_the_address_of_a_cluster_is_taken_for_one(ray: Any) -> None:
    _require_answer(ray.get_runtime_context().gcs_address)


def test_a_task_whose_worker_is_killed_is_done_by_another(ray: Any, tmp_path: Path) -> None:  # noqa: ARG001
    def once_deadly(folder: Path, item: int) -> int:
        mark = folder / f"tried-{item}"
        tried = mark.exists()
        mark.touch()
        if item == 1 and not tried:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item

    with RayTasks() as tasks:
        found = list(tasks.map(once_deadly, tmp_path, range(3)))
    assert found == [0, 1, 4]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "spark"], "there is no engine 'spark': choose local or ray"),
        (["--ray-actors", "2"], "--ray-actors is of --engine ray"),
        (["--ray-address", "auto"], "--ray-address is of --engine ray"),
        (["--engine", "ray", "--workers", "2"], "--workers counts processes of this machine"),
        (["--engine", "ray", "--shard", "1/2"], "--shard divides the items among machines"),
        (["--engine", "ray", "--device", "cuda:1"], "Ray chooses the device of each actor"),
        (["--engine", "ray", "--ray-address", "head"], "--ray-address head is not an address"),
        (["--engine", "ray", "--ray-address", "http://a:1"], "is not an address: write HOST:PORT"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0"),
    ],
)
def test_mistakes_get_a_sentence(options: list[str], message: str, work: Path) -> None:
    write_source(work)
    found = CliRunner().invoke(
        app, ["extract", "texts.txt", "-e", "mini-clip", "-m", "text", "-o", "m.h5", *options]
    )
    assert found.exit_code == (2 if "there is no engine" in message else 1)  # of wrong usage
    assert found.output.startswith("error: ")
    assert message in found.output
    assert not (work / "m.h5").exists()


def test_without_ray_the_line_that_installs_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_source(work)
    monkeypatch.setattr("features.extras.find_spec", lambda package: None)  # noqa: ARG005
    found = CliRunner().invoke(
        app,
        ["extract", "texts.txt", "-e", "mini-clip", "-m", "text", "-o", "m.h5", "--engine", "ray"],
    )
    assert found.exit_code == 1
    assert 'needs the package ray: pip install "mcr-bridge[ray]"' in found.output


def test_more_actors_than_gpus_are_refused(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    with (
        pytest.raises(UserError, match=r"2 actors were asked for, .* but Ray has 1: pass"),
        ray_engine("mini-clip", actors=2),
    ):
        pass


def test_cuda_without_a_gpu_is_refused(ray: Any) -> None:
    if ray.cluster_resources().get("GPU", 0):
        pytest.skip("there is a GPU")
    with (
        pytest.raises(UserError, match="--device cuda was asked for but Ray has no GPU"),
        ray_engine("mini-clip", device="cuda"),
    ):
        pass
