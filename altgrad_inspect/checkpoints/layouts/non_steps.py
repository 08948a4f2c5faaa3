"""Numbers in names that are no steps: precisions, dates, hashes."""

import re
from typing import Final

_PRECISION: Final = re.compile(
    r"(?:[-_.](?:(?:bf|fp|f|int|i|u|nf|mxfp|nvfp)(?:4|6|8|16|32|64)|[248]-?bit|e[2-5]m[0-3])"
    r"(?:_?e[2-5]m[0-3])?(?:fn|fnuz)?)+$"
)
_UUID: Final = re.compile(r"[-_.]?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_HEX: Final = re.compile(r"(?:^|[-_.=])(?P<digits>[0-9a-f]{7,64})(?![^-_.=])")
_RUNS: Final = re.compile(r"[0-9]+|[a-f]+")
_HOUR, _MINUTE = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_TIME: Final = (
    rf"[-_.t]?{_HOUR}(?P<colon>[-_.:h]){_MINUTE}(?:(?P=colon){_MINUTE})?"
    rf"|t{_HOUR}{_MINUTE}(?:{_MINUTE})?"
    # Six digits that end in 00 are more likely 100,000 steps than a full minute.
    rf"|[-_.]?{_HOUR}{_MINUTE}(?!00){_MINUTE}"
)
_DATE: Final = re.compile(
    r"[-_.]?(?<![0-9])(?P<date>(?:19|20)[0-9]{2}(?P<mark>[-_.]?)(?:0[1-9]|1[0-2])(?P=mark)"
    rf"(?:0[1-9]|[12][0-9]|3[01])(?:{_TIME})?)(?![0-9])"
)


def strip_non_steps(name: str) -> str:
    """Return a name in lower case without a precision at its end, and without hashes."""
    return _HEX.sub(_strip_hash, _UUID.sub("", _PRECISION.sub("", name)))


def strip_dates(name: str) -> str:
    """Return a name without dates and times of the day.

    Digits that only might be a date, as ``20240115`` is, go too: ask what is left first.
    """
    return _DATE.sub("", name)


def has_written_date(name: str) -> bool:
    """Say whether there is a date that nobody takes for one number: with marks in it."""
    return any(not found["date"].isdecimal() for found in _DATE.finditer(name))


def _strip_hash(found: re.Match[str]) -> str:
    """Take digits and letters by turns, as ``3f2a1b9``, for a hash, and ``decade100`` not."""
    is_hash = len(_RUNS.findall(found["digits"])) > 2
    return "" if is_hash else found[0]
