"""Names of OLMo-1 are decoded without unpickling, and a hostile one stays what it is."""

import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.checkpoints.assemblies import olmo
from altgrad_inspect.checkpoints.assemblies.olmo import decode_olmo_key
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from tests.checkpoints.layouts.olmo_keys import encode_key, pickle_key, text
from tests.checkpoints.runs_on_disk import write_weights

# What OLMo's own encode_key gives under Python 3.11 (protocol 4) for these keys, written down:
# base64.urlsafe_b64encode(pickle.dumps((("transformer.wte.weight",), False))), and with
# ("state", 3, "exp_avg"), True.
WRITTEN = {
    "gASVHwAAAAAAAACMFnRyYW5zZm9ybWVyLnd0ZS53ZWlnaHSUhZSJhpQu": "transformer.wte.weight",
    "gASVGgAAAAAAAACMBXN0YXRllEsDjAdleHBfYXZnlIeUiIaULg==": "state.3.exp_avg",
}


@pytest.mark.parametrize(("key", "name"), WRITTEN.items())
def test_what_olmo_wrote_is_decoded(key: str, name: str) -> None:
    assert decode_olmo_key(key) == name
    assert key in {encode_key(name), encode_key("state", 3, "exp_avg", is_pickled=True)}


@given(
    parts=st.lists(st.text(min_size=1, max_size=20) | st.integers(0, 255), min_size=1, max_size=6),
    protocol=st.sampled_from([4, 5]),
    is_pickled=st.booleans(),
)
def test_every_key_of_texts_and_numbers_is_decoded(
    parts: list[str | int], protocol: int, *, is_pickled: bool
) -> None:
    key = encode_key(*parts, is_pickled=is_pickled, protocol=protocol)
    assert decode_olmo_key(key) == ".".join(map(str, parts))


def test_the_opcodes_of_older_protocols_are_read() -> None:
    assert decode_olmo_key(encode_key("a.b", protocol=2)) == "a.b"
    assert decode_olmo_key(encode_key("a", "b", "c", "d", protocol=3)) == "a.b.c.d"
    # a part that comes twice is written once and taken out of the memo
    twice = b"\x80\x04" + text("a") + b"h\x00\x86\x94\x89\x86\x94."
    assert decode_olmo_key(urlsafe_b64encode(twice).decode()) == "a.a"


def system(command: bytes) -> bytes:
    return b"cos\nsystem\n(S'" + command + b"'\ntR"


MARKER = "altgrad_was_run"
HOSTILE = [
    b"\x80\x02" + system(b"touch " + MARKER.encode()) + b".",
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL, REDUCE
    b"\x80\x02c__builtin__\neval\n(X\x01\x00\x00\x001tR.",
    b"\x80\x04\x8c\x01a\x85\x94\x89\x86\x94" + system(b"true") + b"0.",  # after a good name
    b"\x80\x02cos\nsystem\n0" + pickle_key(["a"])[2:],  # before a good name
    pickle_key(["a"])[:-1] + b"R.",
    b"\x80\x02(ios\nsystem\n.",
    b"\x80\x02cos\nsystem\n)\x81}b.",  # NEWOBJ, BUILD
    b"\x80\x02X\x01\x00\x00\x00ap0\nP1\n.",  # persistent id
    b"\x80\x04\x82\x01.",  # an extension code
    b"\x80\x04]\x94\x8c\x01a\x94a\x89\x86.",  # a list where a tuple belongs
    b"\x80\x04\x8c\x01a\x89\x86.",  # no tuple inside
    b"\x80\x04)\x89\x86.",  # an empty one
    b"\x80\x04\x8c\x01a\x85K\x00\x86.",  # no flag
    b"\x80\x04\x8c\x00\x85\x89\x86.",  # an empty part
    b"\x80\x04K\x01\x88\x86\x89\x86.",  # a flag as a part
    b"\x80\x04\x86\x86\x86.",  # tuples of nothing
    b"\x80\x04t.",
    b"\x80\x04(((t\x94h\x00\x86.",
    b"\x80\x04h\x07.",
    b"\x80\x04\x94.",
    b"\x80\x04.",
    b"\x80\x04" + text("a") + text("b") + b".",
    b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",  # a text of 2^63 bytes
    b"\x80\x04\x8b\xff\xff\xff\x7f.",  # a number of 2^31 bytes
    b"\x80\x04\x8c\x02\xff\xfe\x85\x89\x86.",  # no UTF-8
    pickle_key(["a"])[:-1],
    pickle_key(["a" * 200]) + b"".join(text("a" * 250) for _ in range(20)),
]


@pytest.mark.parametrize("content", HOSTILE, ids=repr)
def test_a_key_that_does_anything_else_stays_as_it_is(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    imported = set(sys.modules)
    key = urlsafe_b64encode(content).decode()
    assert decode_olmo_key(key) is None
    stored = {encode_key("good.weight"): torch.zeros(2, 2), key: torch.ones(2, 2)}
    path = write_weights(tmp_path / "model.safetensors", stored)
    checkpoint = open_checkpoint(discover_run([path]).checkpoints[0])
    assert len(checkpoint.layers) == 2
    assert not (tmp_path / MARKER).exists()
    assert "posix" not in {name for name in sys.modules if name not in imported}
    if min(stored) != key:  # the first name says whether names are of this kind
        assert set(checkpoint.layers) == {"good.weight", key}
        assert any("1 names are not decoded" in note for note in checkpoint.notes)


@given(content=st.binary(max_size=60), protocol=st.sampled_from(range(6)))
def test_any_bytes_give_a_name_or_none(content: bytes, protocol: int) -> None:
    key = urlsafe_b64encode(b"\x80" + bytes([protocol]) + content).decode()
    assert decode_olmo_key(key) is None or isinstance(decode_olmo_key(key), str)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "gA",
        "gA=",
        "gA!!",
        "gASV…",
        "model.embed",
        next(iter(WRITTEN)).replace("V", "V.", 1),
        "gA" + "A" * 9999,
    ],
)
def test_any_text_gives_none(key: str) -> None:
    assert decode_olmo_key(key) is None


def test_names_that_collide_stay_as_they_are(tmp_path: Path) -> None:
    stored = {encode_key("a", "b"): torch.zeros(1), encode_key("a.b"): torch.ones(1)}
    path = write_weights(tmp_path / "model.safetensors", stored)
    layers = open_checkpoint(discover_run([path]).checkpoints[0]).layers
    assert len(layers) == 2
    assert len({"a.b", *stored} & layers.keys()) == 2


def test_of_very_many_names_only_so_many_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {encode_key(f"layer.{at}"): torch.zeros(1) for at in range(30)}
    path = write_weights(tmp_path / "model.safetensors", stored)
    monkeypatch.setattr(olmo, "_MAX_KEYS", 10)
    names = open_checkpoint(discover_run([path]).checkpoints[0]).layers
    assert len([name for name in names if name.startswith("layer.")]) == 10
    assert len(names) == 30
