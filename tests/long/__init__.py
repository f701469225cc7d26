"""Two programs that run for long: pytest does not collect them, but tests that they work.

Fuzz the pure core for half an hour, and run a found input again::

    python -m tests.long.fuzz --minutes 30
    python -m tests.long.fuzz --replay FILE

Put a real server under good and bad traffic for an hour, and see that nothing grows::

    python -m tests.long.soak --minutes 60
"""
