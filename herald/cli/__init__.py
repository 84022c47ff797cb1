"""The `herald` command line: one module a group of commands, each with `register(app)`.

This package is the composition root: it alone may import every other part of the project, and
does so inside the commands, so that `herald --help` stays quick.
"""
