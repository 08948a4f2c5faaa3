"""How this project compiles loops with numba; importing this module imports it."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function on first use, to run without the interpreter lock.

    Wrappers that a type checker may have put around it are left out: numba cannot see through.

    Args:
        options: Of ``numba.njit``; ``cache=True`` for what is called from outside.
    """

    def compile_function(function: Callable[..., Any]) -> Any:
        return njit(nogil=True, **options)(unwrap(function))

    return compile_function
