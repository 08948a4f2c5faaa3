"""On a GPU, one stream for a worker's copies and one for its kernels; elsewhere nothing at all.

A copy that was begun in `copying` has ended when the block is left, and so have the kernels of
`computing`. So whoever gets a tensor may use it, and whoever gets a slot back may overwrite it,
without knowing about streams. What overlaps are the two blocks, which are in two threads.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


class Lanes:
    """The two streams of one worker.

    Args:
        device: Where it computes.
        open_stream: Makes a stream of a device.
        use_stream: Makes a stream the current one of the calling thread.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        open_stream: Callable[[torch.device], Any] = torch.cuda.Stream,
        use_stream: Callable[[Any], AbstractContextManager[Any]] = torch.cuda.stream,
    ) -> None:
        has_streams = device.type == "cuda"
        self._copies = open_stream(device) if has_streams else None
        self._kernels = open_stream(device) if has_streams else None
        self._use = use_stream

    def copying(self) -> AbstractContextManager[None]:
        """Return a context for reading; when it ends, what was read is where it should be."""
        return self._on(self._copies)

    def computing(self) -> AbstractContextManager[None]:
        """Return a context for measuring; when it ends, nothing is being computed any more."""
        return self._on(self._kernels)

    @contextmanager
    def _on(self, stream: Any) -> Iterator[None]:
        if stream is None:
            yield
            return
        with self._use(stream):
            try:
                yield
            finally:
                stream.synchronize()
