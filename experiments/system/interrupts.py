"""Put off a Ctrl-C until it does no harm."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def deferred_interrupts(on_first: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a Ctrl-C back until the block is done, so that it is done completely.

    Outside the main thread, where Python delivers no signals, the block simply runs.

    Args:
        on_first: called at the first Ctrl-C; a second one then ends the block at once. Without
            this function nothing ends the block early.

    Raises:
        KeyboardInterrupt: after the block, if one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        del number, frame
        if came and on_first is not None:
            raise KeyboardInterrupt
        came = True
        if on_first is not None:
            on_first()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
