"""Every column says what it means, and rows can be told apart."""

import pytest

from altgrad_inspect.tables.columns import TableSchema
from altgrad_inspect.tables.schema import TABLES


@pytest.mark.parametrize("schema", TABLES.values(), ids=lambda schema: schema.name)
def test_every_column_is_described(schema: TableSchema) -> None:
    for field in schema.arrow:
        assert field.metadata is not None
        assert field.metadata[b"meaning"], field.name
        assert b"unit" in field.metadata, field.name


@pytest.mark.parametrize("schema", TABLES.values(), ids=lambda schema: schema.name)
def test_rows_are_sorted_by_columns_that_exist(schema: TableSchema) -> None:
    assert schema.sort_keys
    assert set(schema.sort_keys) <= set(schema.columns)
    assert len(set(schema.columns)) == len(schema.columns)


def test_a_table_is_listed_under_its_own_name() -> None:
    assert all(name == schema.name for name, schema in TABLES.items())
