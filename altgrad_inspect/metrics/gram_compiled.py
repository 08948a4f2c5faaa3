"""The loops of Gram matrices, compiled on first use: C += B^T B, upper triangle, in float64.

B is cut into panels of `LANES` columns, and C into tiles that stay in registers while the rows of
two panels are multiplied. This is what BLAS does for a general product (Goto & van de Geijn 2008,
ACM TOMS 34(3), article 12), at the same speed; for a symmetric one BLAS is a quarter slower at
the sizes of layers, and numpy copies the triangle on top. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202

from numba import types

from altgrad_inspect.metrics.compiling import compiled
from altgrad_inspect.metrics.vector_code import (
    HAS_WIDE_REGISTERS,
    INT64,
    LANES,
    VectorCode,
    intrinsic,
)

TILE_ROWS = LANES if HAS_WIDE_REGISTERS else LANES // 2
TILE_PANELS = 3 if HAS_WIDE_REGISTERS else 1  # 24 or 4 vectors of sums


def _tile_of(num_panels):
    """Make the function that adds one tile, `TILE_ROWS` by ``num_panels`` panels."""

    @intrinsic
    def add_tile(_context, panels, num_rows, row, panel, products):
        def generate(context, builder, signature, values):
            code = VectorCode(context, builder)
            first, _ = code.array(signature.args[0], values[0])
            target, stride = code.array(signature.args[4], values[4])
            panel_size = builder.mul(values[1], INT64(LANES))
            row_panel = builder.udiv(values[2], INT64(LANES))
            row_in_panel = builder.urem(values[2], INT64(LANES))
            left = code.at(first, builder.mul(row_panel, panel_size), row_in_panel)
            rights = [
                code.at(first, builder.mul(builder.add(values[3], INT64(index)), panel_size))
                for index in range(num_panels)
            ]
            sums = [[code.variable() for _ in rights] for _ in range(TILE_ROWS)]
            with code.loop(INT64(0), panel_size) as (position, _):
                vectors = [code.load(code.at(right, position)) for right in rights]
                for index, row_sums in enumerate(sums):
                    weight = code.broadcast(builder.load(code.at(left, position, index)))
                    for vector, total in zip(vectors, row_sums, strict=True):
                        more = code.multiply_add(weight, vector, builder.load(total))
                        builder.store(more, total)
            corner = code.at(
                target, builder.mul(values[2], stride), builder.mul(values[3], INT64(LANES))
            )
            for row_sums in sums:
                for index, total in enumerate(row_sums):
                    place = code.at(corner, index * LANES)
                    code.store(builder.fadd(code.load(place), builder.load(total)), place)
                corner = code.at(corner, stride)
            return context.get_dummy_value()

        return types.void(panels, num_rows, row, panel, products), generate

    return add_tile


_add_wide_tile, _add_tile = _tile_of(TILE_PANELS), _tile_of(1)


@compiled()
def _cut(block, panels):
    """Copy the rows of a block into panels of columns; what a panel has too much is 0."""
    num_rows, num_columns = block.shape
    for panel in range(panels.shape[0]):
        for row in range(num_rows):
            for lane in range(LANES):
                column = panel * LANES + lane
                panels[panel, row, lane] = block[row, column] if column < num_columns else 0.0


@compiled()
def _cut_transposed(columns, panels):
    """The same for a block that is stored column after column."""
    num_columns, num_rows = columns.shape
    for panel in range(panels.shape[0]):
        for lane in range(LANES):
            column = panel * LANES + lane
            for row in range(num_rows):
                panels[panel, row, lane] = columns[column, row] if column < num_columns else 0.0


@compiled(cache=True)
def add_products(block, is_transposed, panels, products):
    """Add B^T B to the upper triangle; numbers below the diagonal are of no use afterwards.

    Args:
        block: B, (rows, n); or B^T.
        is_transposed: Whether it is B^T.
        panels: Scratch, at least (ceil(n / LANES), rows, LANES) in its first two axes together.
        products: (m, m) with m = n rounded up to a multiple of LANES, contiguous.
    """
    num_rows = block.shape[1] if is_transposed else block.shape[0]
    num_panels = products.shape[0] // LANES
    cut = panels[: num_panels * num_rows * LANES].reshape((num_panels, num_rows, LANES))
    if is_transposed:
        _cut_transposed(block, cut)
    else:
        _cut(block, cut)
    for panel in range(0, num_panels, TILE_PANELS):
        width = min(TILE_PANELS, num_panels - panel)
        for row in range(0, (panel + width) * LANES, TILE_ROWS):
            if width == TILE_PANELS:
                _add_wide_tile(cut, num_rows, row, panel, products)
            else:
                for one in range(panel, panel + width):
                    _add_tile(cut, num_rows, row, one, products)
