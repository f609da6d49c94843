"""The ``kong`` command of the embedded gateway: what the official image's scripts and people type."""
