"""The text that the sample models learn: sentences of a small grammar.

The grammar has what a character model needs depth for: words to spell, agreement between a
number, its noun and its verb, sums to copy or work out, and names that come back at the end
of a line. It is made here and not taken from anywhere, so it may be shipped.
"""

import random
from typing import Final

UNKNOWN: Final = 0
"""The token of every character that the text does not use; it never occurs in the text."""

_NAMES: Final = (
    *("ada", "ben", "cleo", "dov", "esme", "finn", "gus", "hanna", "ivo", "june", "kofi", "lena"),
    *("milo", "nora", "otis", "petra", "quinn", "rosa", "sven", "tilda", "uma", "viktor", "wren"),
)
_NOUNS: Final = (
    *("owl", "fox", "hen", "cat", "boat", "lamp", "drum", "kite", "jug", "plum", "quill", "apple"),
    *("basket", "candle", "door", "engine", "feather", "garden", "hammer", "island", "jacket"),
    *("kettle", "ladder", "mirror", "needle", "orchard", "pencil", "ribbon", "saddle", "tunnel"),
    *("umbrella", "violin", "window", "wheel", "blanket", "compass", "dragon", "anchor", "bell"),
)
_ADJECTIVES: Final = (
    *("red", "old", "tiny", "quick", "brave", "grey", "warm", "dizzy", "vexed", "amber", "broken"),
    *("clever", "distant", "empty", "frozen", "gentle", "hollow", "jolly", "lucky", "narrow"),
)
_VERBS: Final = (
    *("see", "find", "want", "hold", "like", "keep", "borrow", "show", "paint", "draw", "follow"),
    *("mend", "sell", "count", "hide", "clean", "lift", "trade"),
)
_PLACES: Final = (
    *("by the river", "under the bridge", "at the mill", "in the garden", "on the hill"),
    *("behind the station", "near the old harbour", "along the wall", "inside the tower"),
)


def _things(rng: random.Random) -> str:
    count = rng.randint(1, 9)
    noun = rng.choice(_NOUNS) + ("" if count == 1 else "s")
    adjective = rng.choice(_ADJECTIVES) + " " if rng.random() < 0.6 else ""
    return f"{count} {adjective}{noun}"


def _story(rng: random.Random) -> str:
    name = rng.choice(_NAMES)
    verb = rng.choice(_VERBS)
    place = " " + rng.choice(_PLACES) if rng.random() < 0.5 else ""
    return f"{name} {verb}s {_things(rng)}{place}, says {name}."


def _pair(rng: random.Random) -> str:
    first, second = rng.sample(_NAMES, 2)
    return f"{first} and {second} {rng.choice(_VERBS)} {_things(rng)}, say {second} and {first}."


def _sum(rng: random.Random) -> str:
    a, b = rng.randint(0, 49), rng.randint(0, 49)
    return f"{a}+{b}={a + b}."


def make_text(*, seed: int, length: int) -> str:
    """Return ``length`` characters of sentences, the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - text, not a secret
    kinds = (_story, _story, _pair, _sum)
    lines: list[str] = []
    size = 0
    while size < length:
        lines.append(rng.choice(kinds)(rng))
        size += len(lines[-1]) + 1
    return "\n".join(lines)[:length]


def tokenize(text: str) -> tuple[list[int], int]:
    """Return the tokens of ``text`` (1 and up) and the vocabulary size, ``UNKNOWN`` included."""
    token_of = {character: token for token, character in enumerate(sorted(set(text)), start=1)}
    return [token_of[character] for character in text], len(token_of) + 1
