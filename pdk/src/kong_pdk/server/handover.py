"""Where a worker runs a plugin's own file: the file's call to serve itself hands the plugin to the worker."""

from __future__ import annotations

from collections.abc import Callable

from kong_pdk.plugin import Plugin

_expected = False


class HandedOver(BaseException):
    """The file has come to the point where it would serve itself; no ``Exception``, which it might catch."""

    def __init__(self, checked: Callable[[], Plugin]) -> None:
        """:param checked: gives the plugin, or raises PluginError."""
        super().__init__()
        self.checked = checked


def expect() -> None:
    """Have the file that runs next end where it would serve itself."""
    global _expected
    _expected = True


def hand_over(checked: Callable[[], Plugin]) -> None:
    """End the run of the plugin's file here if a worker runs it.

    :raises HandedOver: it does.
    """
    if _expected:
        raise HandedOver(checked)
