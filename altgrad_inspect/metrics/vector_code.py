"""Vectors of float64 for compiled kernels: the few instructions of LLVM that they are made of.

A vectorizer neither keeps a tile of sums in registers nor adds up in another order than it is told;
hence kernels that write their innermost loops in vectors of `LANES`. Any processor has them in
some form: one that has narrower registers takes two or four for a vector. Importing this module
imports numba.

What numba keeps on disk it compiles anew when the file of a kernel changes, not when this file
does: touch those too.
"""

from contextlib import AbstractContextManager
from typing import Any, Final

from llvmlite import binding, ir  # comes with numba
from numba import extending
from numba.core import cgutils as untyped_cgutils

intrinsic: Any = extending.intrinsic  # what it returns is called without the context
_cgutils: Any = untyped_cgutils

LANES: Final = 8
INT64: Final = ir.IntType(64)
FLOAT64: Final = ir.DoubleType()
VECTOR: Final = ir.VectorType(FLOAT64, LANES)
ZEROS: Final = ir.Constant(VECTOR, None)

HAS_WIDE_REGISTERS: Final = bool(binding.get_host_cpu_features().get("avx512f", False))
"""Whether there are 32 registers that hold a vector each; else kernels use smaller tiles."""

_LOCAL: Final = 8  # bytes that addresses are multiples of


class VectorCode:
    """Writes instructions into the function that numba is compiling.

    Args:
        context: Of the compilation.
        builder: Where instructions go.
    """

    def __init__(self, context: Any, builder: Any) -> None:
        self._context = context
        self.builder = builder

    def array(self, array_type: Any, value: Any) -> tuple[Any, Any]:
        """Pointer to the first number of a contiguous array, and the numbers in its last axis."""
        array = self._context.make_array(array_type)(self._context, self.builder, value)
        return array.data, self.builder.extract_value(array.shape, array_type.ndim - 1)

    def at(self, pointer: Any, *offsets: Any) -> Any:
        """Pointer so many numbers further on; each offset is a value or an int."""
        for offset in offsets:
            distance = INT64(offset) if isinstance(offset, int) else offset
            pointer = self.builder.gep(pointer, [distance])
        return pointer

    def load(self, pointer: Any) -> Any:
        """The vector from there on."""
        return self.builder.load(self.builder.bitcast(pointer, VECTOR.as_pointer()), align=_LOCAL)

    def store(self, vector: Any, pointer: Any) -> None:
        """Put a vector there."""
        target = self.builder.bitcast(pointer, VECTOR.as_pointer())
        self.builder.store(vector, target, align=_LOCAL)

    def broadcast(self, number: Any) -> Any:
        """A vector of which every number is this one."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def multiply_add(self, left: Any, right: Any, addend: Any) -> Any:
        """Multiply and add, rounded once: left * right + addend."""
        signature = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fma.v{LANES}f64"
        function = _cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [left, right, addend])

    def sum_lanes(self, vector: Any) -> Any:
        """The sum of the numbers in a vector, pair by pair."""
        signature = ir.FunctionType(FLOAT64, [FLOAT64, VECTOR])
        name = f"llvm.vector.reduce.fadd.v{LANES}f64"
        function = _cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [FLOAT64(-0.0), vector], fastmath=("reassoc",))

    def variable(self) -> Any:
        """A vector that may change, 0 at first; the compiler keeps it in a register."""
        return _cgutils.alloca_once_value(self.builder, ZEROS)

    def loop(self, start: Any, stop: Any) -> AbstractContextManager[tuple[Any, Any]]:
        """A loop over int64 positions, `LANES` apart; gives the position first."""
        made: AbstractContextManager[tuple[Any, Any]] = _cgutils.for_range_slice(
            self.builder, start, stop, INT64(LANES)
        )
        return made
