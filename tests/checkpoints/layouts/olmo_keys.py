"""Keys as OLMo-1 writes them, opcode by opcode: no test imports pickle either.

Written after ``olmo/safetensors_util.py:encode_key`` and the opcodes of ``pickletools``.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence


def text(value: str, protocol: int = 4) -> bytes:
    content = value.encode()
    if protocol >= 4:
        return b"\x8c" + bytes([len(content)]) + content + b"\x94"
    return b"X" + len(content).to_bytes(4, "little") + content + b"q\x00"


def pickle_key(parts: Sequence[str | int], *, is_pickled: bool = False, protocol: int = 4) -> bytes:
    """The pickle of ``((part, ...), is_pickled)``."""
    memo = b"\x94" if protocol >= 4 else b"q\x01"
    body = b"" if len(parts) in {1, 2, 3} else b"("
    for part in parts:
        body += b"K" + bytes([part]) if isinstance(part, int) else text(part, protocol)
    body += {0: b"t", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(parts), b"t") + memo
    body += (b"\x88" if is_pickled else b"\x89") + b"\x86" + memo + b"."
    frame = b"\x95" + len(body).to_bytes(8, "little") if protocol >= 4 else b""
    return b"\x80" + bytes([protocol]) + frame + body


def encode_key(*parts: str | int, is_pickled: bool = False, protocol: int = 4) -> str:
    written = pickle_key(parts, is_pickled=is_pickled, protocol=protocol)
    return urlsafe_b64encode(written).decode()
