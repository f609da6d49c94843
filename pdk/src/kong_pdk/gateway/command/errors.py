"""What a command says when it cannot do its work."""


class CommandError(Exception):
    """One sentence for the user; the command ends with exit code 1."""


class UsageError(CommandError):
    """The command line itself is wrong; its usage follows the sentence."""
