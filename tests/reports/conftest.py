"""The made-up run that the reports are tested on."""

import pytest

from altgrad_inspect.tables.results import Results
from tests.reports.examples import make_results


@pytest.fixture(scope="session")
def results() -> Results:
    return make_results()
