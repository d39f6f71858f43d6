"""Write rows of several arrays concurrently: each write mostly waits for the file system."""

import asyncio
import functools
import threading
from collections.abc import Mapping

import numpy as np
import zarr


def write_rows(
    arrays: Mapping[str, zarr.Array], start: int, rows: Mapping[str, np.ndarray]
) -> None:
    """Write rows of several arrays, all from the same row on.

    Args:
        arrays: by name.
        start: the first row.
        rows: by name, with a leading axis of rows.

    Raises:
        OSError: if one of them cannot be written; by then all others were written or tried.
    """

    async def write() -> list[BaseException | None]:
        writes = (
            arrays[name].async_array.setitem(slice(start, start + len(values)), values)
            for name, values in rows.items()
        )
        return await asyncio.gather(*writes, return_exceptions=True)

    outcomes = asyncio.run_coroutine_threadsafe(write(), _loop()).result()
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own: a caller in a notebook already runs one in this."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="eosflows-store", daemon=True).start()
    return loop
