"""Seconds for five training steps of one model in the three loops; compare the groups' rows (pytest tests/bench --benchmark-only)."""
import contextlib
import pytest
from loops import LOOPS
from hyperlex_nb.pretrain import TrainConfig


@pytest.mark.parametrize('name', LOOPS)
@pytest.mark.benchmark(group='training, width 128, 4 layers')
def test_five_steps(benchmark, material, name):
    cfg = TrainConfig(str(material/'packed'), str(material/'tok'), '-', width=128, layers=4, context=128, batch=16, micro=16, steps=5)
    with contextlib.redirect_stdout(None): loss = benchmark.pedantic(LOOPS[name], args=(cfg, 1024, 5), rounds=5, warmup_rounds=1)
    assert 0 < loss < 8
