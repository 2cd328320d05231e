"""The errors of this project: for the user, and for a single bad item."""


class UserError(Exception):
    """Something the user can put right.

    The message is one sentence with the fact, both values where two disagree, and the
    remedy. It is caught once, in `cli/boundary.py`, and printed without a traceback.
    details: lines that are printed below it, such as two descriptions side by side.
    """

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class UsageError(UserError):
    """A value that an option cannot have, such as one of another form: a mistake in the command."""


class UnknownNameError(UsageError):
    """A name that there is not, such as of an encoder or a setting."""


class ToldElsewhereError(UserError):
    """An error that another process of the same command has told already."""


class UnreachableError(UserError):
    """A server that is needed does not answer: later it may."""


class ItemError(Exception):
    """One item of a source cannot be embedded; the message is the reason, without the item.

    `features.extraction.extract` records it in the failures list and goes on with the other items.
    """
