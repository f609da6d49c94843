"""The engines: threads, or the greenlets of gevent that take the place of threads in a whole process."""

from __future__ import annotations

from kong_pdk.mode import GEVENT


def load_shared(engine: str) -> None:
    """Import in the master what its workers share.

    For gevent that is less: what keeps a lock or a queue of Python's own is imported after :func:`start`.
    """
    import kong_pdk.wire.protobuf

    if engine != GEVENT:
        import kong_pdk.server.server  # noqa: F401


def start(engine: str) -> None:
    """Switch this process, a worker that has just been forked, to an engine."""
    if engine == GEVENT:
        from gevent import monkey

        from kong_pdk.server import event_loops

        monkey.patch_all()
        event_loops.separate()
