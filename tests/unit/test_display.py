"""Any text becomes one printable line, and printable text stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.display import display_name

any_text = st.text(st.characters(exclude_categories=()))


@given(text=any_text)
def test_any_text_becomes_one_printable_line(text: str) -> None:
    shown = display_name(text)
    assert shown.isprintable()
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in shown)
    shown.encode()


@given(text=any_text)
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert (display_name(text) == text) == text.isprintable()


@given(text=any_text, limit=st.integers(3, 20))
def test_a_limit_keeps_both_ends(text: str, limit: int) -> None:
    shown = display_name(text, limit=limit)
    if len(text) <= limit:
        assert shown == display_name(text)
    else:
        head = (limit - 1) // 2
        assert shown == f"{display_name(text[:head])}…{display_name(text[-(limit - 1 - head) :])}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("model.layers.0.weight", "model.layers.0.weight"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u200b", r"\u200b"),
        ("\u2028", r"\u2028"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
        ("Gewicht_größe_重み", "Gewicht_größe_重み"),
    ],
)
def test_what_a_terminal_could_obey_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert display_name(text) == shown
