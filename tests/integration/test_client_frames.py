"""Frames from a host with its real worker to a rack, and back: every number accounted for, in each
form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sat_bus.testing.memory import MemoryBus
from sat_client import Device, Failed, Gap, Rack, Sent
from tests.integration.hosting import connected_device

PLUGINS = Path(__file__).parent / "frames"


@pytest.fixture
def device() -> Iterator[Device]:
    with (
        connected_device(PLUGINS) as (broker, _),
        Rack(site="lab", bus=MemoryBus(broker, "rack")) as rack,
    ):
        yield rack.device("a")


@pytest.mark.parametrize("forms", [["json"], ["bin"], ["json", "bin"]])
def test_losses_are_told_at_their_place_with_the_hosts_own_numbers(
    device: Device, forms: list[str]
) -> None:
    gaps: list[Gap] = []
    with device.frames("can", on_gap=gaps.append) as frames:
        device.do("start", stream={"formats": forms})
        device.do("emit", first=0, count=1000)
        device.do("emit", first=1007, count=1000, lost=7)
        numbers = []
        for frame in frames:
            numbers.append(int(frame["data"], 16))
            if numbers[-1] == 2006:
                break
    assert numbers == [*range(1000), *range(1007, 2007)]
    assert gaps == [Gap(1000, 7, {"kernel": 7})]
    assert frames.watch.frames + frames.watch.missed == 2007
    assert frames.watch.causes == {"kernel": 7}


def test_a_reader_that_does_not_keep_up_knows_what_it_lost_itself(device: Device) -> None:
    with device.watch("can", form="bin", capacity=2) as watch:
        device.do("start", stream={"formats": ["bin"]})
        device.do("emit", first=0, count=1)
        assert watch.get(5.0) is not None  # joined at the first frame
        device.do("emit", first=6, count=19_999, lost=5)
        device.do("stop")  # an empty batch is the last
        while watch.frames + watch.missed < 20_005:
            assert watch.get(5.0) is not None
    assert set(watch.causes) == {"kernel", "client"}
    assert watch.causes["kernel"] == 5
    assert watch.frames + watch.causes["client"] == 20_000


def test_tasks_read_while_the_host_publishes(device: Device) -> None:
    async def read(form: str) -> list[int]:
        numbers: list[int] = []
        async with device.watch("can", form=form) as watch:  # type: ignore[arg-type]
            started.release()
            async for received in watch:
                numbers += [int(frame["data"], 16) for frame in received.frames]
                if len(numbers) == 3000:
                    break
        return numbers

    async def main() -> list[list[int]]:
        readers = [asyncio.create_task(read(form)) for form in ("bin", "json", "auto")]
        for _ in readers:
            await asyncio.wait_for(started.acquire(), 5.0)
        await asyncio.to_thread(device.do, "start", stream={"formats": ["json", "bin"]})
        await asyncio.to_thread(device.do, "emit", first=0, count=3000)
        return await asyncio.wait_for(asyncio.gather(*readers), 20.0)

    started = asyncio.Semaphore(0)
    assert asyncio.run(main()) == [list(range(3000))] * 3


def test_each_frame_that_is_sent_has_its_result(device: Device) -> None:
    frames = [{"id": i, "data": "00"} for i in (1, 0x666, 3)]
    assert device.send_frames(frames) == Sent(2, (Failed(1, "not this one"),))
    assert [frame["id"] for frame in device.do("sent")] == [1, 3]
