"""The HTTP server of `mcr serve`: search over bridges, indices and memories.

`models` says what is asked and answered, `limits` how much of it, `state` what is served,
`answers` how queries become hits, and `app` which address gives what. Nothing that comes in is
executed, unpickled or taken as a path.
"""
