"""Handlers in processes of their own: what must be stopped can be, and leaves nothing behind.

    worker ── frames of JSON ── child      runs handlers and their steps, and never opens the store
       └──── orders ── guard ──── spawns   kills a child and all that it started

The worker keeps the lease, and writes what a child asks for if it belongs to the child's own run.
"""
