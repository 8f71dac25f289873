"""Journals in one SQLite file, for the processes of one machine: the store by default.

Start reading at `store.py`, the verbs; then `file.py`, which holds together what a process has of a
file: one thread that writes (`writer.py`), some that read (`readers.py`), one that looks out for
what other processes do (`watcher.py`). What a write does is in `ledger.py`, a read in `pages.py`.
"""

from outlast.stores.sqlite.store import SQLiteStore, open_url

__all__ = ["SQLiteStore", "open_url"]
