"""The one exception that a user is meant to read."""

from __future__ import annotations


class VssError(Exception):
    """Something the user can fix: bad input, missing data, a mismatch.

    The command line prints it in two lines and exits with 2; a traceback is shown only with ``--debug``.

    Parameters
    ----------
    message
        What is wrong, with the file and the value.
    hint
        What to do about it, as one sentence or command.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[VssError], tuple[str, str]]:
        # Worker processes return errors by pickle; the default would lose the hint.
        return type(self), (self.message, self.hint)
