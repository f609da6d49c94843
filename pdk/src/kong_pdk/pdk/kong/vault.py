"""``kong.vault``: secrets that are kept elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Reference


class Vault(Namespace):
    """Kong's vaults. A plugin's configuration may hold references as well: a field with ``"referenceable": True``."""

    @function("kong.vault.get")
    def get(self, reference: str) -> Result[str | None]:
        """Give the secret behind a reference.

        :param reference: ``{vault://env/my-secret}``, for example.
        :return: the secret; None where it cannot be had.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.is_reference")
    def is_reference(self, reference: str) -> Result[bool]:
        """Say whether a text has the form of a reference. Whether there is such a secret is not asked.

        :param reference: the text.
        :return: whether it has.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.vault.parse_reference")
    def parse_reference(self, reference: str) -> Result[Reference | None]:
        """Take a reference apart.

        :param reference: ``{vault://env/my-secret}``, for example.
        :return: its parts; None where it has not the form of one.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.update")
    def update(self, options: Mapping[str, Any]) -> Result[dict[str, Any]]:
        """Put the secrets of today into a configuration.

        :param options: a dict whose ``$refs`` tells, for names in it, the references they came from.
        :return: the dict with the values that the references have now.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.flush")
    def flush(self) -> Result[None]:
        """Have Kong forget the secrets that it has fetched, so that it fetches them again.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.warmup")
    def warmup(self, options: Mapping[str, Any]) -> Result[None]:
        """Have Kong fetch the secrets behind all references in a configuration.

        :param options: a dict whose ``$refs`` tells the references.

        Phases: not measured.
        Interface: extended.
        """
