"""The error that stands for a mistake a user can mend."""


class UserError(ValueError):
    """Something a user can put right; the message says what it is, where it is and what to do."""
