"""The package for asyncio. `_sync` is made from this by unasync.py, but for `_io.py`."""
