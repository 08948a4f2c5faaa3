"""Text from files made fit to print: one line, no control characters, nothing hidden.

A layer name is whatever the file says. Every character that a terminal could obey, that
breaks a line or that cannot be seen (C0 and C1 controls, escape sequences, bidirectional
overrides, zero-width and unassigned characters, lone surrogates) is shown as its escape.
"""


def display_name(text: str, *, limit: int | None = None) -> str:
    r"""Return ``text`` as one printable line.

    Args:
        text: Any text, also of undecodable file names.
        limit: At most this many characters of ``text`` are shown, the middle being left
            out; at least 3. No limit if None.

    Returns:
        ``text`` itself if it is printable; else with ``\x1b``-like escapes in the place
        of the characters that are not.
    """
    if limit is not None and len(text) > limit:
        head = (limit - 1) // 2
        text = f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
