from __future__ import annotations

import re
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nda_index.device import CPU, GPU, choose_device, describe_device, find_fault
from nda_index.errors import ConfigError

TORCH = torch.__version__


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that works, as far as torch says."""
    properties = SimpleNamespace(name="NVIDIA H200", total_memory=140 << 30, major=9, minor=0)
    zeros = torch.zeros
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "zeros", lambda *size, device=None, **how: zeros(*size, **how))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda which: properties)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())


def fail(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """Make the card fail to start."""

    def zeros(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "zeros", zeros)


def test_a_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert str(describe_device()) == f"cpu (torch {TORCH} has no CUDA)"
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ConfigError) as refused:
        choose_device("cuda")
    message = str(refused.value)
    assert f"no CUDA device for it: torch {TORCH} has no CUDA; install a torch with CUDA" in message
    assert message.endswith("or take 'auto' or 'cpu'") and "\n" not in message


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="device is 'tpu'; it must be one of 'auto', 'cpu', 'cuda'"):
        choose_device("tpu")


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
            "the NVIDIA driver is too old for torch .*, which needs CUDA 13.0",
            "update the driver",
        ),
        ("Found no NVIDIA driver on your system. Please check", "there is no NVIDIA driver", "install the driver"),
        ("No CUDA GPUs are available", "sees no card", "CUDA_VISIBLE_DEVICES"),
        (
            "CUDA error: no kernel image is available for execution on the device\nCompile with TORCH_USE",
            "was not built for this card",
            "install a torch that knows the card",
        ),
        ("CUDA error: device busy.\nmore", "cannot use the card: CUDA error: device busy$", "nvidia-smi"),
        ("", "cannot use the card: no message", "nvidia-smi"),
    ],
)
def test_what_keeps_a_card_from_working_is_one_line(
    monkeypatch: pytest.MonkeyPatch, said: str, reason: str, remedy: str
) -> None:
    fail(monkeypatch, said)
    fault = find_fault()
    assert fault is not None and "\n" not in fault.reason + fault.remedy
    assert re.search(reason, fault.reason), fault.reason
    assert remedy in fault.remedy
    assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match="device is 'cuda'"):
        choose_device("cuda")


def test_warnings_of_torch_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(*_: Any, **__: Any) -> None:
        warnings.warn("this card is too new", stacklevel=1)  # an error, by pytest's settings
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "zeros", zeros)
    fault = find_fault()
    assert fault is not None and "was not built for this card" in fault.reason


@pytest.mark.usefixtures("card")
def test_a_card_that_works_is_described_and_chosen() -> None:
    assert str(describe_device()) == "cuda (NVIDIA H200, 140.0 GiB, compute capability 9.0)"
    assert choose_device("auto") == choose_device("cuda", kernels=True) == GPU


@pytest.mark.usefixtures("card")
def test_without_triton_a_card_builds_and_answers_no_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert choose_device("cuda") == GPU
    assert choose_device("auto", kernels=True) == CPU
    with pytest.raises(ConfigError, match="Triton is not installed; install the Triton that belongs to torch"):
        choose_device("cuda", kernels=True)
    assert "questions take the CPU, since Triton is not installed" in str(describe_device())
