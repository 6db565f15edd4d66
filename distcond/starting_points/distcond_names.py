"""distcond's own names: run directories, and state dicts of networks built here."""

from __future__ import annotations

from distcond.starting_points.convention import Convention, Rule

DISTCOND = Convention("distcond", "distcond's own networks, of any method", (Rule(r"(?P<same>.+)", "{same}"),))
