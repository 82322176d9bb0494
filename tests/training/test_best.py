"""The best weights on dev and their mean."""

from __future__ import annotations

import torch
from torch import nn

from sightline.training.best import Best


def with_weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_the_best_few_are_kept_in_order_and_averaged() -> None:
    best = Best(2)
    told = [best.offer(dev, with_weight(value)) for dev, value in ((3.0, 1.0), (1.0, 2.0), (2.0, 4.0), (5.0, 8.0))]
    assert told == [True, True, False, False]
    assert best.devs == [1.0, 2.0]
    assert best.single["weight"].item() == 2.0 and best.mean()["weight"].item() == 3.0


def test_a_checkpoint_brings_them_back() -> None:
    best, again = Best(3), Best(3)
    for dev, value in ((3.0, 1.0), (1.0, 2.0)):
        best.offer(dev, with_weight(value))
    again.load(best.tensors(), best.devs)
    assert again.devs == best.devs
    assert torch.equal(again.mean()["weight"], best.mean()["weight"])
