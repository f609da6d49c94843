"""The stream subsystem: TCP connections that are passed on as they are, with the phases ``preread`` and ``log``."""
