"""The one exception that callers catch: a mistake in what the user gave."""


class InputError(ValueError):
    """What the user gave cannot be used. The message is one line: name, got, wanted, remedy.

    The command line ends with exit code 2 on it, and with 1 on every other exception.
    """
