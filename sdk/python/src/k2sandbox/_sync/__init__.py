"""The package for threads, made from `_async` by unasync.py, but for `_io.py`."""
