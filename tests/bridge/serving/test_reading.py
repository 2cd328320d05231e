"""Files of requests are read within the request's time, in threads and processes of their own."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from PIL import Image

from bridge.serving.decoders import Decoders
from bridge.serving.item_files import Picture
from bridge.serving.limits import Limits
from bridge.serving.models import SearchResponse
from bridge.serving.refusal import Refusal
from bridge.serving.requests import (
    ContentQuery,
    EmbedRequest,
    ItemName,
    ItemQuery,
    SearchRequest,
)
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
        every = range(service.decoders.processes)
        held = [service.decoders._idle.get() for _ in every]  # as if they were at work
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
        for _ in range(service.decoders.processes):
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


def test_of_an_item_a_larger_file_is_embedded_in_part(make_service: Make) -> None:
    answer = _alike(make_service(Limits(image_pixels=10)), neighbours=True).results[0]
    assert answer.query.note is not None
    assert re.fullmatch(r"embedded at \d x \d pixels, of \d+ x \d+", answer.query.note)
    assert answer.neighbours


def test_an_item_whose_file_is_not_fit_is_searched_where_it_is_known(
    make_service: Make, tmp_path: Path
) -> None:
    """Someone's memory may name files that are none."""
    service = make_service(Limits())
    theirs = service.served.collections["pictures"].table
    row = theirs.row_of(f"pictures-own/{NUMBERS[0]}")
    assert row is not None
    damaged = tmp_path / theirs.items[row]
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_text("no picture")
    theirs.root = str(tmp_path)
    assert _alike(service, neighbours=False).results[0].query.note is None  # it is not asked for
    answer = _alike(service, neighbours=True).results[0]
    assert answer.hits[0].label == NUMBERS[0]
    assert answer.neighbours == []
    assert "it is no picture of a kind that is taken" in (answer.query.note or "")
    item = ItemName(collection="pictures", id=f"pictures-own/{NUMBERS[0]}")
    asked = EmbedRequest(queries=[ItemQuery(item=item)], space="mini-clip")
    with pytest.raises(Refusal, match=r"cannot be embedded in mini-clip: .* no picture of a kind"):
        asyncio.run(service.embed(asked))


def test_thumbnails_leave_a_process_to_searches(make_service: Make, place: Place) -> None:
    """However many are asked for, by however many clients."""
    service = make_service(Limits(seconds=20))

    async def ask() -> list[Picture]:
        held = [service.decoders._idle.get() for _ in range(service.decoders.processes)]
        drawn = service.files.picture
        rows = [asyncio.create_task(drawn("pictures", row, "thumbnail")) for row in range(20)]
        await asyncio.sleep(0.1)
        assert service.files.drawing.borrowed_tokens == service.decoders.processes - 1
        for one in held:
            service.decoders._idle.put(one)
        asked = SearchRequest(queries=[_upload(place)], k=1)
        assert (await asyncio.wait_for(service.search(asked), 10)).results[0].hits
        return await asyncio.gather(*rows)

    pictures = asyncio.run(ask())
    assert len({one.etag for one in pictures}) == 20
    known = asyncio.run(service.files.picture("pictures", 0, "thumbnail"))
    assert known is pictures[0]


def test_an_item_has_the_neighbours_of_its_file(make_service: Make, place: Place) -> None:
    service = make_service(Limits())
    alike = _alike(service, neighbours=True).results[0].neighbours
    sent = SearchRequest(queries=[_upload(place)], neighbours=True)
    wanted = asyncio.run(service.search(sent)).results[0].neighbours
    assert wanted
    assert alike == wanted
