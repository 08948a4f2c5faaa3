"""Reading ahead of the computation changes when things happen, and nothing else."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.events import Event, LayerDone
from altgrad_inspect.refs import LayerRef

NUM_CHECKPOINTS = 5
ENGINE = "altgrad_inspect.engine"
Ask = Callable[..., ai.Results]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Small layers and large ones (the limit is lowered below), some not in every checkpoint."""
    directory = tmp_path / "run"
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    weights = {f"small{index}": torch.randn(6, 5, generator=generator) for index in range(4)}
    weights |= {f"large{index}": torch.randn(130, 130, generator=generator) for index in range(2)}
    weights |= {"vector": torch.randn(7, generator=generator)}
    for step in range(NUM_CHECKPOINTS):
        late = {"late": torch.full((4, 4), 1.0 + step)} if step > 1 else {}
        gone = {"gone": torch.full((4, 4), 1.0 + step)} if step < 3 else {}
        save_file(weights | late | gone, directory / f"step_{step}.safetensors")
        for name, weight in weights.items():
            weights[name] = weight + 1e-2 * torch.randn(weight.shape, generator=generator)
    return directory


def limit_reading_ahead(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    for module in ("worker", "slots"):
        monkeypatch.setattr(f"{ENGINE}.{module}.READ_AHEAD_BYTES", num_bytes)


def assert_same(one: ai.Results, other: ai.Results) -> None:
    assert one.tables.keys() == other.tables.keys()
    for name, table in one.tables.items():
        assert table.equals(other.tables[name]), name


def count_threads() -> int:
    return sum(one.name.startswith(("worker", "reader")) for one in threading.enumerate())


ASKS: dict[str, Ask] = {
    "report": ai.report,
    "updates": lambda run, **options: ai.rank(run, updates=True, spectra=True, **options),
    "sweep": lambda run, **options: ai.sweep(run, quant=["e4m3", "int4"], **options),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_tables_are_those_of_reading_one_layer_after_the_other(
    run: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    with monkeypatch.context() as plain:
        limit_reading_ahead(plain, -1)
        plain.setattr(f"{ENGINE}.bundles.SMALL_LAYER_BYTES", -1)
        expected = ask(run, jobs=1)
    for num_bytes in (1 << 10, 1 << 30):
        limit_reading_ahead(monkeypatch, num_bytes)
        for jobs in (1, 3):
            assert_same(ask(run, jobs=jobs), expected)


@pytest.mark.parametrize("num_bytes", [-1, 1 << 30])
def test_a_file_that_changes_on_the_way_fails_the_same_rows(
    run: Path, monkeypatch: pytest.MonkeyPatch, num_bytes: int
) -> None:
    """The fourth checkpoint is cut off after one of its large layers was read."""
    victim = run / "step_3.safetensors"
    whole = victim.read_bytes()
    read = LayerReader.read
    limit_reading_ahead(monkeypatch, num_bytes)
    in_time: set[str] = set()

    def cut_off(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        found = read(self, layer, slot)
        if layer.file.path == victim:
            in_time.add(layer.name)
            if layer.name == "large0":
                victim.write_bytes(whole[:-8])
        return found

    monkeypatch.setattr(LayerReader, "read", cut_off)
    ranks = ai.rank(run, jobs=1).to_pandas()
    failed = ranks[ranks["status"] == "failed"]
    assert set(failed["step"]) == {3}
    assert set(failed["layer"]) == set(ranks["layer"]) - in_time - {"gone"}
    assert "large1" in set(failed["layer"])
    assert all("step_3.safetensors: the file changed" in reason for reason in failed["reason"])


def test_what_cannot_be_read_fails_its_rows_and_the_next_checkpoint_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LayerReader.read

    def refuse(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        if layer.name in {"small3", "large1"} and layer.file.path.name == "step_2.safetensors":
            raise MemoryError
        return read(self, layer, slot)

    monkeypatch.setattr(LayerReader, "read", refuse)
    ranks = ai.rank(run, jobs=2).to_pandas()
    failed = ranks[ranks["status"] == "failed"]
    assert set(failed["layer"]) == {"small3", "large1"}
    assert set(failed["step"]) == {2}
    assert set(failed["reason"]) == {"out of memory: MemoryError"}


def test_bytes_are_read_while_others_are_computed_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A computation that waits for the next read ends only if that read goes on beside it."""
    read = LayerReader.read
    reads = threading.Semaphore(0)
    is_late = threading.Event()

    def note(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        found = read(self, layer, slot)
        reads.release()
        return found

    class Patient:
        rows, skipped = (), ()

        def __init__(self, *_args: object, **_options: object) -> None:
            self.num_seen = 0

        def see(self, *_args: object) -> None:
            self.num_seen += 1
            for _ in range(2 if self.num_seen == 1 else 1):
                if self.num_seen < NUM_CHECKPOINTS and not reads.acquire(timeout=20):
                    is_late.set()

    monkeypatch.setattr(LayerReader, "read", note)
    monkeypatch.setattr(f"{ENGINE}.layer.RankRows", Patient)
    ai.rank(run, layers=["large0"], jobs=1)
    assert not is_late.is_set()


def test_large_layers_are_announced_and_not_read_ahead(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_reading_ahead(monkeypatch, 1 << 10)
    announced: list[tuple[str, str]] = []
    announce = LayerReader.announce

    def note(self: LayerReader, layer: LayerRef) -> None:
        announced.append((layer.name, layer.file.path.name))
        announce(self, layer)

    monkeypatch.setattr(LayerReader, "announce", note)
    ai.rank(run, layers=["large0"], jobs=1)
    assert announced == [("large0", f"step_{step}.safetensors") for step in range(1, 5)]


@pytest.mark.parametrize("jobs", [1, 3, 40])
def test_an_interrupt_ends_all_threads(run: Path, jobs: int) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, LayerDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ai.report(run, jobs=jobs, on_event=interrupt)
    assert count_threads() == 0


def test_a_signal_ends_the_run_after_the_read_it_is_at(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_reads = 0
    read = LayerReader.read

    def slowly(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        nonlocal num_reads
        num_reads += 1
        time.sleep(0.05)
        return read(self, layer, slot)

    def stop(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LayerReader, "read", slowly)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            ai.rank(run, jobs=2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count_threads() == 0
    assert num_reads < 9 * NUM_CHECKPOINTS - 5


@pytest.mark.parametrize(
    "place", [f"{ENGINE}.worker.{it}" for it in ("read_sighting", "LayerMeter.see")]
)
def test_a_defect_ends_the_run_with_its_own_error(
    run: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_args: object) -> None:
        msg = "a defect"
        raise ValueError(msg)

    monkeypatch.setattr(place, fail)
    with pytest.raises(ValueError, match="a defect"):
        ai.rank(run, jobs=3)
    assert count_threads() == 0


def test_all_files_are_closed(run: Path) -> None:
    listed = Path("/proc/self/fd")
    if not listed.is_dir():
        pytest.skip("this system does not list open files")
    ai.report(run, jobs=2)
    before = len(list(listed.iterdir()))
    ai.report(run, jobs=2)
    assert len(list(listed.iterdir())) == before
