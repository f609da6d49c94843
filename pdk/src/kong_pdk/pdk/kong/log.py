"""``kong.log``: lines in Kong's log, and the log entry of a request."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function
from kong_pdk.pdk.kong.values import SerializeOptions


class Inspect(Namespace):
    """Lines for debugging: ``kong.log.inspect(x)`` writes values in a readable form with their types.

    Formatting the values costs Kong time, so do not use it in production.
    """

    @function("kong.log.inspect")
    def __call__(self, *values: object) -> Result[None]:
        """Write values into Kong's log, at level notice: texts in quotes, dicts and lists with their content.

        :param values: the values, which Kong separates by spaces.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.log.inspect.on")
    def on(self) -> Result[None]:
        """Turn ``kong.log.inspect`` on again, for this plugin.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.log.inspect.off")
    def off(self) -> Result[None]:
        """Turn ``kong.log.inspect`` off, for this plugin.

        Phases: not measured.
        Interface: extended.
        """


class Log(Namespace):
    """Kong's log. Kong adds the plugin's name before each message, and the request after it.

    The parts of a message are joined without spaces. A message below Kong's ``log_level`` is not written, but still
    costs a call.
    """

    inspect = Part(Inspect)

    @function("kong.log")
    def __call__(self, *message: object) -> Result[None]:
        """Write a line at level notice.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.log.alert")
    def alert(self, *message: object) -> Result[None]:
        """Write a line at level alert: an operator must act at once.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.crit")
    def crit(self, *message: object) -> Result[None]:
        """Write a line at level crit: a part of the system does not work.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.err")
    def err(self, *message: object) -> Result[None]:
        """Write a line at level error: a request could not be served as it should.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.warn")
    def warn(self, *message: object) -> Result[None]:
        """Write a line at level warn: something is not as it should be, but the request goes on.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.notice")
    def notice(self, *message: object) -> Result[None]:
        """Write a line at level notice, Kong's default ``log_level``: something worth knowing happened.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.info")
    def info(self, *message: object) -> Result[None]:
        """Write a line at level info: something ordinary happened.

        :param message: the parts of the line.

        Phases: certificate, rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.log.debug")
    def debug(self, *message: object) -> Result[None]:
        """Write a line at level debug: a detail that helps to find an error.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.deprecation")
    def deprecation(self, *message: object) -> Result[None]:
        """Write a line about a deprecated feature, at level warn.

        :param message: the parts of the line; the last one may be a dict with ``after``, the version since which the
            feature is deprecated, ``removal``, the version that removes it, and ``trace``.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.log.serialize")
    def serialize(self) -> Result[str]:
        """Give the entry that Kong's logging plugins would send for this request or connection.

        :return: a JSON text: ``json.loads`` makes a dict of it.

        Phases: log.
        Interface: stock.
        """

    @function("kong.log.set_serialize_value")
    def set_serialize_value(self, key: str, value: object, options: SerializeOptions | None = None) -> Result[None]:
        """Set a value of the entry that ``serialize`` gives and that logging plugins send.

        :param key: the path of the value, with dots between the keys: ``request.headers.authorization``.
        :param value: text, number, boolean or dict; None removes the value.
        :param options: ``{"mode": "add"}`` or ``{"mode": "replace"}`` instead of ``set``; not available over
            ProtoBuf:1 with the stock interface.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """
