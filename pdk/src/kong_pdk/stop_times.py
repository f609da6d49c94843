"""How long each part of an end may take, in seconds. All programs take their limits from here, so that they add up.

=============================  ====================================================================================
Kong                           `KONG_PYTHON_DRAIN_SECONDS` (7 s) for its open requests, then ``KONG_KILL``
a worker of a plugin server    ``EVENTS`` for what has begun, then ``ATEXIT`` for ``close()`` and ``atexit``
its master                     kills a worker after ``WORKER``, and gives idle connections ``LINGER``
what has started the server    (supervisord, ``kong-python dev``, the gateway) kills the master after ``SERVER``
the container                  Docker kills it after 10 s: Kong's 7 and 1, and ``LEAST_SERVER``
=============================  ====================================================================================

At the end of a container, Kong ends first. The servers then get the time that Kong did not need, ``SERVER`` at most and
``LEAST_SERVER`` at least.
"""

from __future__ import annotations

KONG_KILL = 1.0
"""From the end of Kong's drain time, when it gets SIGTERM, until it is killed."""

EVENTS = 3.0
"""For the events under way, once a worker is told to stop."""

ATEXIT = 3.0
"""For ``close()`` of instances and the functions that plugins registered by ``atexit``, together."""

CLOSE = 1.5
"""Of these, at most, for ``close()`` of instances."""

WORKER = EVENTS + ATEXIT + 0.25
"""Until a master kills a worker."""

LINGER = 0.5
"""How long a master that ends keeps idle connections: Kong may be about to use one of them."""

SERVER = WORKER + LINGER + 0.25
"""Until a plugin server is killed."""

LEAST_SERVER = 2.0
"""The same at the end of a container in which Kong has used all of its time."""
