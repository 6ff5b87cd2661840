"""The one exception for things a user can mend."""


class InputError(Exception):
    """Bad input or options: says what is wrong, where, what was expected and what to do next.

    The command line prints its message in one piece and exits with status 2; no traceback.
    """
