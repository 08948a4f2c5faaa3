"""What the compiled kernel needs below the level of numba: bits of floats, and many codes at once.

Each function is a few instructions of LLVM, which any processor has in some form. The functions
on codes take 1-D arrays of ordinals and a position, look at the `LANES` codes from there on, and
return one bit a code as an int64. Importing this module imports numba.

What numba keeps on disk it compiles anew when ``flip_kernel_compiled.py`` changes, not when
this file does: touch that one too.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202

from typing import Any

from llvmlite import ir  # comes with numba
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic  # what it returns is called without the context
LANES = 64
_ONE_BIT_A_LANE = ir.IntType(LANES)


def _plain(signature, emit):
    """A function of scalars, as ``emit(builder, *values)``."""
    return signature, lambda _context, builder, _signature, values: emit(builder, *values)


@intrinsic
def bits_of(_context, value):
    """The bits of a float32 as an int32."""
    return _plain(types.int32(value), lambda builder, x: builder.bitcast(x, ir.IntType(32)))


@intrinsic
def float_of(_context, bits):
    """The float32 with the bits of an int32."""
    return _plain(types.float32(bits), lambda builder, x: builder.bitcast(x, ir.FloatType()))


@intrinsic
def shift_right(_context, value, distance):
    """A logical shift that stays in 32 bits."""
    return _plain(types.int32(value, distance), lambda builder, x, n: builder.lshr(x, n))


@intrinsic
def add_in_any_order(_context, left, right):
    """A sum whose order the vectorizer may choose; once compiled it is always the same."""
    return _plain(
        left(left, right), lambda builder, x, y: builder.fadd(x, y, flags=("reassoc", "nsz"))
    )


@intrinsic
def num_ones(_context, mask):
    """How many bits of an int64 are set."""
    return _plain(types.int64(mask), lambda builder, x: builder.ctpop(x))


def _load(context, builder, array_type, array, start):
    """The `LANES` elements of a 1-D array from ``start`` on, as one vector."""
    data = context.make_array(array_type)(context, builder, array).data
    element = context.get_data_type(array_type.dtype)
    vector = ir.VectorType(element, LANES)
    pointer = builder.bitcast(builder.gep(data, [start]), vector.as_pointer())
    return builder.load(pointer, align=array_type.dtype.bitwidth // 8)


def _broadcast(builder, value, vector_type):
    """A vector of which every element is ``value``, cut to the width of an element."""
    narrow = builder.trunc(value, vector_type.element)
    vector = builder.insert_element(
        ir.Constant(vector_type, ir.Undefined), narrow, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(vector, ir.Constant(vector_type, ir.Undefined), zeros)


def _steps(builder, left, right):
    """Distance between ordinals, as unsigned integers of the same width."""
    is_less = builder.icmp_signed("<", left, right)
    difference = builder.sub(right, left)
    return builder.select(is_less, difference, builder.sub(left, right))


def _of_two(left, right, start, result, emit):
    def generate(context, builder, signature, values):
        left_type, right_type, _ = signature.args
        vectors = (
            _load(context, builder, left_type, values[0], values[2]),
            _load(context, builder, right_type, values[1], values[2]),
        )
        return emit(builder, *vectors)

    return result(left, right, start), generate


def _as_mask(builder, lanes):
    return builder.bitcast(lanes, _ONE_BIT_A_LANE)


@intrinsic
def differ(_context, left, right, start):
    """Which codes are not the same."""
    return _of_two(
        left,
        right,
        start,
        types.int64,
        lambda builder, x, y: _as_mask(builder, builder.icmp_signed("!=", x, y)),
    )


@intrinsic
def above(_context, left, right, start):
    """Which codes of ``left`` are larger than those of ``right``."""
    return _of_two(
        left,
        right,
        start,
        types.int64,
        lambda builder, x, y: _as_mask(builder, builder.icmp_signed(">", x, y)),
    )


@intrinsic
def farther(_context, left, right, start, distance):
    """Which codes are more than ``distance`` apart."""

    def generate(context, builder, signature, values):
        left_type, right_type, _, _ = signature.args
        x = _load(context, builder, left_type, values[0], values[2])
        y = _load(context, builder, right_type, values[1], values[2])
        limit = _broadcast(builder, values[3], x.type)
        return _as_mask(builder, builder.icmp_unsigned(">", _steps(builder, x, y), limit))

    return types.int64(left, right, start, distance), generate


@intrinsic
def sum_of_steps(_context, left, right, start):
    """Sum of the distances between the codes."""

    def emit(builder, x, y):
        wide = ir.VectorType(ir.IntType(32), LANES)
        steps = builder.zext(_steps(builder, x, y), wide)
        add = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.IntType(32), [wide]),
            f"llvm.vector.reduce.add.v{LANES}i32",
        )
        return builder.zext(builder.call(add, [steps]), ir.IntType(64))

    return _of_two(left, right, start, types.int64, emit)


@intrinsic
def largest_step(_context, left, right, start):
    """Largest distance between the codes."""

    def emit(builder, x, y):
        steps = _steps(builder, x, y)
        largest = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(steps.type.element, [steps.type]),
            f"llvm.vector.reduce.umax.v{LANES}i{steps.type.element.width}",
        )
        return builder.zext(builder.call(largest, [steps]), ir.IntType(64))

    return _of_two(left, right, start, types.int64, emit)


@intrinsic
def nonzero(_context, codes, start):
    """Which codes are not 0."""

    def generate(context, builder, signature, values):
        x = _load(context, builder, signature.args[0], *values)
        return _as_mask(builder, builder.icmp_signed("!=", x, ir.Constant(x.type, None)))

    return types.int64(codes, start), generate


@intrinsic
def negative(_context, codes, start):
    """Which codes are below 0."""

    def generate(context, builder, signature, values):
        x = _load(context, builder, signature.args[0], *values)
        return _as_mask(builder, builder.icmp_signed("<", x, ir.Constant(x.type, None)))

    return types.int64(codes, start), generate
