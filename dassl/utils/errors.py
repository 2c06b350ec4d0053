"""The exception for whatever a user can mend: a wrong key, a missing file, a damaged checkpoint."""

import re

class UserError(Exception):
    """An error that the user can mend; its text is one readable message that names the file or key and what to do.

    An instance that was raised in a data-loading worker is rebuilt by PyTorch in the main process, with the worker's
    traceback put before the message: that part is taken off again.
    """

    def __init__(self, message=""):
        message = str(message)
        if message.startswith("Caught ") and "\nOriginal Traceback" in message:
            message = re.split(rf"^(?:[\w.]+\.)?{type(self).__name__}: ", message, flags=re.MULTILINE)[-1].strip()
        super().__init__(message)


class DamagedFileError(UserError):
    """A file is truncated or not of the kind that was expected (so that a caller can fall back to another one)."""
