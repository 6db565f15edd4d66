"""A run on the Ray that other tests use too."""

from __future__ import annotations

from typing import Any

import pytest

from distcond.results.store import read_rows
from support.ray_cluster import Ray

pytestmark = pytest.mark.ray


def test_run_joins_the_ray_at_its_address(place: Any, shared_ray: Ray) -> None:
    run = place.start("launch=ray", "launch.workers=2", **shared_ray.joining)
    assert run.end() == 0, run.output
    assert "joining Ray ..." in run.output
    assert {row.attempt for row in read_rows(run.path) if row.split == "test"} == {0}
