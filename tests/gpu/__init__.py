"""What holds on a real GPU: ``make test-gpu``."""
