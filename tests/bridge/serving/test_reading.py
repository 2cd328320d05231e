"""Files of requests are read within the request's time, in threads and processes of their own."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from PIL import Image

from bridge.serving.decoders import Decoders
from bridge.serving.limits import Limits
from bridge.serving.models import SearchResponse
from bridge.serving.refusal import Refusal
from bridge.serving.requests import ContentQuery, ItemName, ItemQuery, SearchRequest
from bridge.serving.service import Service
from bridge.serving.state import open_served
from tests.bridge.serving.place import NUMBERS, Place

Make = Callable[[Limits], Service]


@pytest.fixture
def make_service(place: Place) -> Iterator[Make]:
    """Makes services with other limits, and ends them."""
    made: list[Service] = []

    def make(limits: Limits) -> Service:
        served = open_served(
            [place.bridge], [place.pictures], [place.memory("texts")], device="cpu"
        )
        made.append(Service(served, limits, keep_queries=0, state=None))
        return made[-1]

    yield make
    for service in made:
        service.close()


def _upload(place: Place) -> ContentQuery:
    path = place.file("images", NUMBERS[0])
    content = base64.b64encode(path.read_bytes()).decode()
    return ContentQuery(content=content, filename=path.name)


def test_a_file_has_no_more_time_than_its_request(tmp_path: Path) -> None:
    decoders = Decoders(Limits(), processes=1)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    decoders.run("thumbnail", tmp_path / "a.png", time.monotonic() + 30)
    before = decoders._idle.queue[0]
    with pytest.raises(Refusal, match="no answer was found within 30 s") as caught:
        decoders.run("thumbnail", tmp_path / "a.png", time.monotonic() - 1)
    assert caught.value.status == 504
    assert list(decoders._idle.queue) == [before]  # which has done no harm
    before.kill()
    decoders._idle.queue[0] = None
    with pytest.raises(Refusal, match="within 30 s") as caught:
        decoders.run("thumbnail", tmp_path / "a.png", time.monotonic() + 0.01)  # it has to start
    assert caught.value.status == 504
    decoders.close()


def test_files_that_wait_leave_other_requests_their_threads(
    make_service: Make, place: Place
) -> None:
    service, count = make_service(Limits(seconds=20)), 60

    async def ask() -> list[SearchResponse]:
        held = [service.decoders._idle.get() for _ in range(2)]  # as if they were at work
        asked = SearchRequest(queries=[_upload(place)], k=1)
        waiting = [asyncio.create_task(service.search(asked)) for _ in range(count)]
        await asyncio.sleep(0.1)
        info = await asyncio.wait_for(anyio.to_thread.run_sync(service.info), 5)
        assert info.collections
        assert not any(one.done() for one in waiting)
        for one in held:
            service.decoders._idle.put(one)
        return await asyncio.gather(*waiting)

    assert len(asyncio.run(ask())) == count


def test_waiting_for_a_thread_is_given_up(make_service: Make, place: Place) -> None:
    service = make_service(Limits(seconds=0.3))

    async def ask() -> list[object]:
        for _ in range(2):
            service.decoders._idle.get()
        asked = SearchRequest(queries=[_upload(place)], k=1)
        tasks = [service.search(asked) for _ in range(60)]
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    started = time.monotonic()
    refused = asyncio.run(ask())
    assert time.monotonic() - started < 2  # eight at a time would take longer
    assert {one.status for one in refused if isinstance(one, Refusal)} == {503, 504}
    assert all(isinstance(one, Refusal) for one in refused)


def _alike(service: Service, *, neighbours: bool) -> SearchResponse:
    item = ItemName(collection="pictures", id=f"pictures-own/{NUMBERS[0]}")
    return asyncio.run(
        service.search(SearchRequest(queries=[ItemQuery(item=item)], neighbours=neighbours))
    )


def test_the_file_of_an_item_is_decoded_within_the_limits(make_service: Make) -> None:
    """Someone's memory may name files that are none."""
    strict = make_service(Limits(image_pixels=10))
    with pytest.raises(Refusal, match="at most 10 are taken") as caught:
        _alike(strict, neighbours=True)
    assert caught.value.status == 413
    assert _alike(strict, neighbours=False).results[0].hits  # where the file is not asked for


def test_an_item_has_the_neighbours_of_its_file(make_service: Make, place: Place) -> None:
    service = make_service(Limits())
    alike = _alike(service, neighbours=True).results[0].neighbours
    sent = SearchRequest(queries=[_upload(place)], neighbours=True)
    wanted = asyncio.run(service.search(sent)).results[0].neighbours
    assert wanted
    assert alike == wanted
