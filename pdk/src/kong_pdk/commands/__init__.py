"""Commands of ``kong-python`` that people type, outside of the container's start."""
