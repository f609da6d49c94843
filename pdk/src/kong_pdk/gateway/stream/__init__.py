"""The stream subsystem: proxies TCP connections, with the phases ``preread`` and ``log``."""
