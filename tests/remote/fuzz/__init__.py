"""Malformed frames, made from a committed corpus of well-formed ones (make fuzz-remote)."""
