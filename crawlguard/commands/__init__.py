"""Subcommands in modules of their own: each has its ``command``, and is imported when it is asked for."""
