"""Batches of an extraction through a Ray Data pipeline, back in order.

A row of the pipeline is a whole batch, so that Ray cannot put its items into other company. The
rows come back to the process that asked, which alone writes: workers need the sources and the
packages, and no folder to write to. Ray runs again what a lost worker or machine had under way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders import ENCODERS
from features.encoders.own import find_loader
from features.errors import UserError
from features.extraction.on_ray.carrying import CarriedInput, carried
from features.extraction.on_ray.cluster import connected
from features.extraction.on_ray.packing import raise_error
from features.extraction.on_ray.stages import (
    Attempts,
    Decoding,
    Embed,
    Embedding,
    EncoderRecipe,
    Items,
    decode_numbers,
    describe,
)
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from features.encoders import Encoder
    from features.extraction.embed import EmbeddedBatch
    from features.extraction.job import Job
    from features.space import Modality

TOLD_LINES = 8  # of an exception on a worker
MOST_BLOCKS = 4096  # that Ray plans ahead; of more batches, several share one


class RayEngine:
    """Decodes on the CPUs of a Ray cluster and embeds in actors; made by `ray_engine`."""

    def __init__(
        self,
        ray: Any,
        recipe: EncoderRecipe,
        actors: int,
        *,
        gpus: bool,
        item_timeout: float | None = None,
    ) -> None:
        self.ray = ray
        self.item_timeout = item_timeout
        self.recipe = recipe
        self.actors = actors
        self.gpus = gpus

    def encoder(self, modality: Modality) -> Encoder:
        """The encoder, loaded here, or described by a worker if workers have GPUs.

        Raises UserError if it cannot be loaded or does not know the modality.
        """
        if not self.gpus:
            return self.recipe.encoder()
        return self.described(modality)

    def described(self, modality: Modality) -> Encoder:
        """The encoder as a worker describes it; this machine needs neither GPU nor weights."""
        task = self.ray.remote(num_cpus=0, num_gpus=int(self.gpus))(describe)
        with _told():
            encoder: Encoder = self.ray.get(task.remote(self.recipe, modality))
        return encoder

    def embed(self, job: Job, first: int) -> Generator[EmbeddedBatch]:
        """Batch `first` of the job and all after it, in order.

        Raises UserError if the encoder fails, or a batch's worker is lost again and again.
        """
        import torch

        if first == job.batches:
            return
        ray = self.ray
        values = StringColumn.of(item.value for item in job.items)
        items = ray.put(Items(values, job.source.root, job.batch_size))
        make_input = ray.put(CarriedInput.of(job.encoder.input(job.modality)))
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        decoding = Decoding(items, make_input, attempts, first, self.item_timeout)
        described = job.encoder.description.as_dict()
        threads = torch.get_num_threads()
        how = ray.put(Embedding(items, attempts, self.recipe, job.header, described, threads))
        with _told(), _settings():
            for row in self._pipeline(job.batches - first, decoding, how).iter_rows():
                raise_error(row["error"])
                rows = np.frombuffer(row["rows"], job.header.row_dtype())
                yield rows, dict(json.loads(row["reasons"]))

    def _pipeline(self, batches: int, decoding: Decoding, how: Any) -> Any:
        """A Ray dataset whose rows are embedded batches; stages of other needs are not fused."""
        data = self.ray.data
        numbers = data.range(batches, override_num_blocks=min(batches, MOST_BLOCKS))
        decoded = numbers.map_batches(decode_numbers, batch_size=None, fn_args=(decoding,))
        return decoded.map_batches(
            Embed,
            batch_size=1,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=self.actors),
            fn_constructor_args=(how,),
            num_cpus=0,
            num_gpus=int(self.gpus),
        )


@contextmanager
def ray_engine(
    spec: str,
    *,
    device: str = "auto",
    precision: str = "fp32",
    actors: int | None = None,
    address: str | None = None,
    item_timeout: float | None = None,
) -> Iterator[RayEngine]:
    """An engine for `extract`, connected to Ray for the length of the block.

    spec, device, precision: of the encoder, as `load_encoder` takes them; with a GPU, each actor
    has one of its own.
    actors: how many load the encoder. None takes one for each GPU, or, without, for each machine.
    address: of a cluster, None starts Ray on this machine.
    item_timeout: as `extract` takes it; unset, there is none.
    Raises UserError if Ray is not installed or does not answer, there is no such encoder, or the
    cluster does not have a GPU for each actor.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"Ray chooses the device of each actor, {device} cannot be named: pass --device auto, "
            "cpu or cuda"
        )
    load, argument = find_loader(spec, ENCODERS)
    with connected(address) as ray, carried(spec):
        found = int(ray.cluster_resources().get("GPU", 0))
        if device == "cuda" and found < 1:
            raise UserError("--device cuda was asked for but Ray has no GPU: pass --device cpu")
        gpus = device != "cpu" and found > 0
        if gpus and (actors or 0) > found:
            raise UserError(
                f"{actors} actors were asked for, each with a GPU of its own, but Ray has "
                f"{found}: pass --ray-actors {found} or less, or --device cpu"
            )
        machines = sum(node["Alive"] for node in ray.nodes())
        recipe = EncoderRecipe(spec, load, argument, "cuda" if gpus else device, precision)
        yield RayEngine(
            ray,
            recipe,
            actors or (found if gpus else machines),
            gpus=gpus,
            item_timeout=item_timeout,
        )


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Data in the order of the source, without bars and reports of its own."""
    from ray.data import DataContext

    context = DataContext.get_current()
    kept = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = kept


@contextmanager
def _told() -> Iterator[None]:
    """Turn Ray's exceptions into what the user can put right."""
    from ray.data.exceptions import SystemException
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, SystemException) as error:
        raise _as_user_error(error) from error


def _as_user_error(error: BaseException) -> UserError:
    """What a worker raised: for the user, or by a mistake in an encoder's code; or a lost Ray."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return UserError(str(cause), details=cause.details)
    missing = re.search(r"No module named '([^']+)'", str(error))
    if missing:
        return UserError(
            f"a worker of Ray has no module {missing[1]}: install the same packages, mcr-bridge "
            "among them, on all machines"
        )
    first = str(error).partition("The above exception was")[0]  # what follows tells of Ray's files
    lines = [line for line in first.splitlines() if line.strip(" ^~")]
    return UserError(
        f"the extraction failed on a worker of Ray ({type(cause or error).__name__}): what is done "
        "is kept, and the same command continues",
        details="\n".join(f"  {line}" for line in lines[-TOLD_LINES:]),
    )
