"""What programs and users do to get more than their slice: ``make escape``."""
