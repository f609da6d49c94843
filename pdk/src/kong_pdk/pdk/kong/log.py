"""``kong.log``: lines in Kong's log, and the log entry of a request."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function
from kong_pdk.pdk.kong.values import SerializeOptions


class Inspect(Namespace):
    """Lines for debugging: ``kong.log.inspect(x)`` writes values so that one sees what they are.

    Making them readable costs Kong time: nothing for plugins that are in use.
    """

    @function("kong.log.inspect")
    def __call__(self, *values: object) -> Result[None]:
        """Write values into Kong's log, at level notice: texts in quotes, dicts and lists with what they hold.

        :param values: what to write; there is a space between two of them.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.log.inspect.on")
    def on(self) -> Result[None]:
        """Have ``kong.log.inspect`` write again, for this plugin.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.log.inspect.off")
    def off(self) -> Result[None]:
        """Have ``kong.log.inspect`` write nothing, for this plugin.

        Phases: not measured.
        Interface: extended.
        """


class Log(Namespace):
    """Kong's log. Each line has the plugin's name in front, and the request behind.

    The parts of a message are joined as they are: put spaces where they belong. What the level ``log_level`` of Kong
    leaves out is a call nevertheless.
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
        """Write a line at level alert: somebody must act at once.

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
        """Write a line at level warn: something is not as it should be, and goes on.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.notice")
    def notice(self, *message: object) -> Result[None]:
        """Write a line at level notice: something worth knowing happened. Kong's default shows it and all above.

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
        """Write a line at level debug: a detail for those who look for a mistake.

        :param message: the parts of the line.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.log.deprecation")
    def deprecation(self, *message: object) -> Result[None]:
        """Write a line that something will go, at level warn.

        :param message: the parts of the line; at the end there may be a dict with ``after`` and ``removal``, the
            versions since which it is deprecated and in which it goes, and ``trace``.

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
        """Set a value of the entry that ``serialize`` gives, and that logging plugins send.

        :param key: where it goes, dots leading into tables: ``request.headers.authorization``.
        :param value: text, number, boolean or dict; None takes away what is there.
        :param options: ``{"mode": "add"}`` or ``"replace"``, where ``set`` is not meant; over ProtoBuf:1 with the
            stock interface there are none.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """
