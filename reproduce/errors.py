"""The one error of this package that a user can mend."""


class CommandError(Exception):
    """Its message goes to stderr after `error: `; the exit status is 2."""
