"""Memory that is needed again and again, and should not be fetched from the system every time."""

from functools import cache
from typing import Final

import torch

_KEPT_BYTES: Final = 16 << 20


@cache
def keep_freed_memory() -> None:
    """Let glibc keep the memory that one tile or matrix frees for the next one.

    It returns what is free beyond twice the largest block ever freed, at most 64 MiB (mallopt(3),
    M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). Without a large one, every tile pays for pages that
    the last one had. No page of this block is touched.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)
