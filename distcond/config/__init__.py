"""The settings of a run as one frozen value (`Config`): schema, overrides, recipe choice, command line, run ID.

May import registry, operating_point, path_errors and errors; nothing else of distcond.
"""
