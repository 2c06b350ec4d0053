"""The exception for whatever a user can mend: a wrong key, a missing file, a damaged checkpoint."""

import re

# C0 and C1 controls but tab and newline, marks that change the direction of writing, halves of surrogate pairs
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return ``text`` with control characters written out (``\\x1b``): what a file holds must not steer a terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class UserError(Exception):
    """An error that the user can mend; its text is one readable message that names the file or key and what to do.

    Control characters in it, which come from names in files, are written out.

    PyTorch rebuilds an instance from a data-loading worker in the main process and puts the worker's traceback before the
    message; that part is removed here.
    """

    def __init__(self, message: object = "") -> None:
        message = str(message)
        if message.startswith("Caught ") and "\nOriginal Traceback" in message:
            message = re.split(rf"^(?:[\w.]+\.)?{type(self).__name__}: ", message, flags=re.MULTILINE)[-1].strip()
        super().__init__(printable(message))


class DamagedFileError(UserError):
    """A file is truncated or not of the kind that was expected (so that a caller can fall back to another one)."""
