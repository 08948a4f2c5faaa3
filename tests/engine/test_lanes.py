"""Streams are waited for before anything is handed on; without a GPU there are none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from altgrad_inspect.engine.lanes import Lanes

CUDA, CPU = torch.device("cuda:1"), torch.device("cpu")


class FakeCuda:
    """Streams that note what is done with them; the first one is for copies."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._names = iter(("copies", "kernels"))

    def open_stream(self, device: torch.device) -> "FakeStream":
        assert device == CUDA
        return FakeStream(next(self._names), self.log)

    @contextmanager
    def use_stream(self, stream: "FakeStream") -> Iterator[None]:
        self.log.append(f"use {stream.name}")
        yield
        self.log.append(f"leave {stream.name}")


class FakeStream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self._log = log

    def synchronize(self) -> None:
        self._log.append(f"wait for {self.name}")


def test_each_block_has_its_stream_and_ends_when_the_stream_does() -> None:
    cuda = FakeCuda()
    lanes = Lanes(CUDA, open_stream=cuda.open_stream, use_stream=cuda.use_stream)
    with lanes.copying():
        cuda.log.append("copy")
    with lanes.computing():
        cuda.log.append("compute")
    assert cuda.log == [
        *("use copies", "copy", "wait for copies", "leave copies"),
        *("use kernels", "compute", "wait for kernels", "leave kernels"),
    ]


def test_an_error_waits_for_the_stream_as_well() -> None:
    cuda = FakeCuda()
    lanes = Lanes(CUDA, open_stream=cuda.open_stream, use_stream=cuda.use_stream)
    with pytest.raises(ZeroDivisionError), lanes.copying():
        _ = 1 / 0
    assert cuda.log[-1] == "wait for copies"


def test_without_a_gpu_no_stream_is_opened() -> None:
    cuda = FakeCuda()
    lanes = Lanes(CPU, open_stream=cuda.open_stream, use_stream=cuda.use_stream)
    with lanes.copying(), lanes.computing():
        pass
    assert cuda.log == []
