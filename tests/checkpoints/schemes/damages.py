"""Ways in which stored tensors can be wrong, one or two at a time."""

from collections.abc import Iterator, Sequence
from itertools import combinations, islice

from tests.checkpoints.schemes.raw_tensors import RawTensor, RawTensors

_OTHER_DTYPES = ("U8", "I8", "I16", "U64", "F4", "F8_E4M3", "F32", "C64")
_NUMBERS = ("I8", "I32", "F8_E4M3", "F32")
_NUM_PAIRS = 2

Damaged = tuple[str, dict[str, RawTensor]]
"""What was done, and the tensors after it."""


def damage(tensors: RawTensors) -> Iterator[Damaged]:
    """Yield every damage of every tensor, of all at once, and some of every two."""
    for name, tensor in tensors.items():
        yield f"{name} missing", {key: one for key, one in tensors.items() if key != name}
        for byte in (0x00, 0xFF):
            yield f"{name} of bytes {byte:#x}", {**tensors, name: tensor.filled(byte)}
        for dtype, shape in _forms(tensor):
            found = tensor.stored_as(dtype, shape)
            if found is not None:
                yield f"{name} {dtype} {list(shape)}", {**tensors, name: found}
    yield from damage_together(tensors)
    for first, second in islice(combinations(tensors, 2), _NUM_PAIRS):
        for one in _smallest(tensors[first].shape):
            for other in _smallest(tensors[second].shape):
                yield from _reshape(tensors, {first: one, second: other})


def damage_together(tensors: RawTensors) -> Iterator[Damaged]:
    """Yield every damage of all tensors at once."""
    for shapes in _joint_shapes([tensor.shape for tensor in tensors.values()]):
        yield from _reshape(tensors, dict(zip(tensors, shapes, strict=True)))


def _forms(tensor: RawTensor) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Other dtypes in the same shape and as a number, other shapes in the same dtype."""
    for dtype in _OTHER_DTYPES:
        yield dtype, tensor.shape
    for dtype in _NUMBERS:
        yield dtype, ()
    for shape in dict.fromkeys(_shapes(tensor.shape)):
        if shape != tensor.shape:
            yield tensor.dtype, shape


def _shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    yield ()
    yield (1, *shape)
    yield (*shape, 1)
    yield shape[1:]
    yield shape[:-1]
    yield shape[::-1]
    yield tuple(0 for _ in shape)
    for axis, size in enumerate(shape):
        for other in (0, max(0, size - 1), size + 1):
            yield (*shape[:axis], other, *shape[axis + 1 :])


def _smallest(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """No dimension, no element along an axis."""
    empty = [(*shape[:axis], 0, *shape[axis + 1 :]) for axis in range(len(shape))]
    return [(), *empty]


def _joint_shapes(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Every tensor in the same wrong way."""
    yield [() for _ in shapes]
    yield [(0,) for _ in shapes]
    yield [tuple(0 for _ in shape) for shape in shapes]
    yield [(1, *shape) for shape in shapes]
    yield [(*shape, 1) for shape in shapes]
    yield [shape[1:] for shape in shapes]
    for axis in range(max(map(len, shapes), default=0)):
        for size in (0, 1):
            yield [
                (*shape[:axis], size, *shape[axis + 1 :]) if axis < len(shape) else shape
                for shape in shapes
            ]


def _reshape(tensors: RawTensors, shapes: dict[str, tuple[int, ...]]) -> Iterator[Damaged]:
    found = {
        name: tensors[name].stored_as(tensors[name].dtype, shape) for name, shape in shapes.items()
    }
    whole = {name: one for name, one in found.items() if one is not None}
    if len(whole) == len(found):
        what = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        yield what, {**tensors, **whole}
