"""Every reader of untrusted bytes against bytes that nobody wrote on purpose, and some that were.

`python -m tests.fuzz READER --runs N` lets a coverage-guided fuzzer look for inputs that a reader
does not bear, `--all` does so for all of them; the tests beside it try a few of each.
"""
