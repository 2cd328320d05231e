"""Faults injected into real processes and files: nothing finished is lost, nothing wrong is used.

`python -m tests.faults --count 500` injects as many as it is told, of every kind in turn; the
tests beside it inject a few of each.
"""
