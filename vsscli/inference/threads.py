"""Reading ahead and writing behind: one thread each, so that the network seldom waits for the disk.

Both hold a bounded number of items, pass errors on to the main thread, and end with it. Torch is used only in the main
thread: work in a second one would start another pool of threads on the same cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar

Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")


class _End:
    pass


def read_ahead(items: Iterator[Item], depth: int) -> Generator[Item, None, None]:
    """Yield what ``items`` yields, with up to ``depth`` items computed in advance by another thread.

    Close it (`contextlib.closing`) if it may be left before its end, so that the thread ends, too.
    """
    end = _End()
    with ThreadPoolExecutor(1, "vss-read") as pool:
        waiting: deque[Future[Item | _End]] = deque(pool.submit(next, items, end) for _ in range(depth))
        try:
            while not isinstance(item := waiting.popleft().result(), _End):
                waiting.append(pool.submit(next, items, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()


class WriteBehind(Generic[Arguments]):
    """Calls a function in another thread, in order, with at most ``depth`` unfinished calls.

    As a context manager it waits for all calls at its end, even if the block is left by an error or Ctrl-C, since what
    was computed is worth keeping.

    Parameters
    ----------
    function
        The function to call.
    depth
        Number of unfinished calls at which a further one waits.
    """

    def __init__(self, function: Callable[Arguments, None], depth: int) -> None:
        self._function = function
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, "vss-write")
        self._calls: deque[Future[None]] = deque()
        self._failed = False

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        """Schedule a call; raises the error of an earlier one."""
        while len(self._calls) >= self._depth:
            self._calls.popleft().result()
        self._calls.append(self._pool.submit(self._call, *args, **kwargs))

    def __enter__(self) -> WriteBehind[Arguments]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._calls:
                self._calls.popleft().result()
        finally:
            self._pool.shutdown(wait=True)

    def _call(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        # After a full disk the next segment would only fail again.
        if not self._failed:
            try:
                self._function(*args, **kwargs)
            except BaseException:
                self._failed = True
                raise
