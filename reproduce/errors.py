"""The one error of this package that a user can mend."""


class CommandError(Exception):
    """Its message goes to stderr after `error: `; the exit status is 2.

    Control characters in it, from names of files, are written out (here once more: dassl.utils' would load PyTorch).
    """

    def __init__(self, message=""):
        super().__init__("".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in str(message)))
