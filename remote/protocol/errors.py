"""What is wrong with something that the other side sent."""


class ProtocolError(Exception):
    """The bytes are not what the protocol allows; the connection that carried them ends."""
