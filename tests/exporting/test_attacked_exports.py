"""An exported network under AutoAttack, as RobustBench runs it: the outcome of every example is the network's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import distcond
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.export import main
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from support.installed import needs

needs("pyautoattack", "it is an optional extra: pip install 'distcond[attacks]'")
pytestmark = pytest.mark.cluster

COUNT = 60


def test_autoattack_breaks_the_same_examples(trained: Path, tmp_path: Path, capsys: Any) -> None:
    from pyautoattack import AutoAttack

    main([str(trained), "dial=0,0.5,1", "rule=weights", "card=false", "formats=safetensors", f"out={tmp_path}"])
    folders = capsys.readouterr().out.split()
    source = open_source(prepare_data(RunDir(trained).config().data), "test")
    raw, y = next(source.read([torch.arange(COUNT).numpy()]))
    x = to_float(raw).contiguous()
    for folder, t in zip(folders, (0.0, 0.5, 1.0), strict=True):
        outcomes = []
        for network in (distcond.load(folder), network_at(load(trained), OperatingPoint(1.0, "weights", t))):
            attack = AutoAttack(network.eval(), eps=0.1, seed=0, device="cpu")
            perturbed, _ = attack.run_standard_evaluation(x, y, batch_size=COUNT)
            outcomes.append(network(perturbed).argmax(1) == y)
        assert torch.equal(*outcomes), t
        assert 0 < int(outcomes[0].sum()) < COUNT or t == 0
