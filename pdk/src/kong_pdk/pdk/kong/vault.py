"""``kong.vault``: secrets in vaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Reference


class Vault(Namespace):
    """Kong's vaults. Fields of a plugin's configuration with ``"referenceable": True`` may hold references as well."""

    @function("kong.vault.get")
    def get(self, reference: str) -> Result[str | None]:
        """Give the secret of a reference.

        :param reference: ``{vault://env/my-secret}``, for example.
        :return: the secret; None where Kong cannot get it.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.is_reference")
    def is_reference(self, reference: str) -> Result[bool]:
        """Whether a text has the form of a reference. Kong does not look for the secret.

        :param reference: the text.
        :return: whether it has the form.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.vault.parse_reference")
    def parse_reference(self, reference: str) -> Result[Reference | None]:
        """Parse a reference.

        :param reference: ``{vault://env/my-secret}``, for example.
        :return: its parts; None for a text without the form of a reference.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.update")
    def update(self, options: Mapping[str, Any]) -> Result[dict[str, Any]]:
        """Update the secrets in a configuration.

        :param options: a dict whose ``$refs`` maps names in it to their references.
        :return: the dict with the current secrets.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.flush")
    def flush(self) -> Result[None]:
        """Make Kong forget the secrets that it has fetched, so that it fetches them again.

        Phases: not measured.
        Interface: extended.
        """

    @function("kong.vault.warmup")
    def warmup(self, options: Mapping[str, Any]) -> Result[None]:
        """Make Kong fetch the secrets of all references in a configuration.

        :param options: a dict whose ``$refs`` has the references.

        Phases: not measured.
        Interface: extended.
        """
