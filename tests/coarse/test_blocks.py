from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from nda_index.coarse.blocks import FEWEST, BlockRunner
from nda_index.device import CPU
from nda_index.images import Pixels

DEVICE = torch.device("cpu:0")  # the CPU, as a device that is not it
IMAGES = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)


class Card:
    """Sums images as long as there are few enough, and raises an error otherwise."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        self.most, self.error, self.asked = most, error, list[tuple[int, bool]]()

    def sum(self, images: Pixels, device: torch.device) -> int:
        self.asked.append((len(images), device == CPU))
        if device != CPU and len(images) > self.most:
            raise self.error
        return int(images.sum(dtype=int))


def test_blocks_that_are_too_large_are_halved_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    runner, card = BlockRunner(DEVICE), Card(30, torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert sum(runner.run(card.sum, IMAGES)) == sum(range(100))
    assert card.asked == [(n, False) for n in (100, 50, 25, 25, 25, 25)]
    assert sum(runner.run(card.sum, IMAGES[:30])) == sum(range(30))
    assert card.asked[6:] == [(25, False), (5, False)]
    assert (runner.halved, runner.on_cpu) == (2, 0)
    assert "halved 2 times" in " ".join(runner.describe())
    assert "50 images are too many for the GPU's memory: 25 from now on" in caplog.text


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("cudaMalloc error out of memory [2]")]
)
def test_without_memory_for_the_fewest_images_the_cpu_goes_on(error: RuntimeError) -> None:
    runner, card = BlockRunner(DEVICE), Card(0, error)
    assert sum(runner.run(card.sum, IMAGES)) == sum(range(100))
    assert [n for n, on_cpu in card.asked if not on_cpu] == [100, 50, 25, 12]
    assert FEWEST >= 12 and runner.halved == 3 and runner.on_cpu == len([1 for _, on_cpu in card.asked if on_cpu]) == 9
    assert runner.run_whole(lambda device: device == CPU)


def test_a_card_that_fails_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    runner, card = BlockRunner(DEVICE), Card(0, RuntimeError("CUDA error: an illegal memory access\nmore"))
    assert runner.run(card.sum, IMAGES) == runner.run(card.sum, IMAGES) == [sum(range(100))]
    assert card.asked == [(100, False), (100, True), (100, True)]
    assert (runner.halved, runner.on_cpu) == (0, 2)
    assert "the CPU did 2 parts" in " ".join(runner.describe())
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert messages[0] == "the GPU failed: CUDA error: an illegal memory access" and len(messages) == 2


def test_work_without_parts_is_done_on_the_cpu_where_the_card_fails() -> None:
    runner = BlockRunner(DEVICE)

    def work(device: torch.device) -> bool:
        if device != CPU:
            raise torch.cuda.OutOfMemoryError
        return True

    assert runner.run_whole(lambda device: device is DEVICE)
    assert runner.run_whole(work) and runner.on_cpu == 1
    assert runner.run(lambda images, device: device is DEVICE, IMAGES) == [True]  # it is not given up for that


def test_other_errors_are_not_hidden() -> None:
    runner, card = BlockRunner(DEVICE), Card(0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        runner.run(card.sum, IMAGES)
    assert runner.describe() == ()
