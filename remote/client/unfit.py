"""Why a module is not sent as a program."""


class Unfit(Exception):
    """Its text says why, for the program's warning."""
