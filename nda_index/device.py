"""The device that computes: a GPU where one works, and in a line what is wrong where none does."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from nda_index.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
CPU = torch.device("cpu")
GPU = torch.device("cuda")
GUIDE = "docs/usage.md, Building on a GPU"


@dataclass(frozen=True)
class Fault:
    """Why no GPU computes.

    Attributes:
        reason: what is wrong, such as "torch 2.13.0+cpu has no CUDA".
        remedy: what to do about it.
    """

    reason: str
    remedy: str


@dataclass(frozen=True)
class DeviceFacts:
    """What there is to know of the device that "auto" takes.

    Attributes:
        device: "cuda" or "cpu".
        name: of the card; "" for the CPU.
        memory: bytes of the card; 0 for the CPU.
        capability: of the card, as "9.0"; "" for the CPU.
        reason: why it is the CPU, or what the card lacks; "" where nothing is wrong.
    """

    device: str
    name: str = ""
    memory: int = 0
    capability: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.device == "cpu":
            return f"cpu ({self.reason})"
        lacks = f"; {self.reason}" if self.reason else ""
        size = f"{self.memory / 2**30:.1f} GiB"
        return f"cuda ({self.name}, {size}, compute capability {self.capability}{lacks})"


def describe_device() -> DeviceFacts:
    """Return what there is to know of the device that "auto" takes for questions.

    Example:
        >>> describe_device().device in ("cpu", "cuda")
        True
    """
    fault = find_fault()
    if fault is not None:
        return DeviceFacts("cpu", reason=fault.reason)
    card = torch.cuda.get_device_properties(GPU)
    lacks = find_fault(kernels=True)
    facts = card.name, int(card.total_memory), f"{card.major}.{card.minor}"
    return DeviceFacts("cuda", *facts, reason=f"questions take the CPU, since {lacks.reason}" if lacks else "")


def choose_device(device: str, *, kernels: bool = False) -> torch.device:
    """Return the device that "auto", "cpu" or "cuda" stands for.

    Args:
        device: what is asked for; "auto" is the GPU where one works.
        kernels: whether it has to run this package's own kernels, which need Triton.

    Raises:
        ConfigError: the device is unknown, or "cuda" and no GPU works.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if device not in DEVICES:
        raise ConfigError(f"device is {device!r}; it must be one of {', '.join(map(repr, DEVICES))}")
    if device == "cpu":
        return CPU
    fault = find_fault(kernels=kernels)
    if device == "cuda" and fault is not None:
        raise ConfigError(
            f"device is 'cuda', but there is no CUDA device for it: {fault.reason}; {fault.remedy}, or take 'auto' or "
            f"'cpu'"
        )
    return GPU if fault is None else CPU


def find_fault(*, kernels: bool = False) -> Fault | None:
    """Return why no GPU can be used, or None where one works.

    Args:
        kernels: whether it has to run this package's own kernels, which need Triton.
    """
    if torch.version.cuda is None and torch.version.hip is None:
        return Fault(f"torch {torch.__version__} has no CUDA", f"install a torch with CUDA ({GUIDE})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a card that it was not built for; what is said here is enough
        try:
            torch.zeros(1, device=GPU).add_(1).cpu()
        except RuntimeError as error:
            return _explain(str(error))
    if kernels:
        try:
            import triton  # noqa: F401
        except ImportError:
            return Fault("Triton is not installed", f"install the Triton that belongs to torch ({GUIDE})")
    return None


def _explain(text: str) -> Fault:
    """Make one line of what torch says of a device that does not start."""
    built = f"torch {torch.__version__}"
    if "too old" in text:
        return Fault(
            f"the NVIDIA driver is too old for {built}, which needs CUDA {torch.version.cuda}",
            f"update the driver, or install a torch for an older CUDA ({GUIDE})",
        )
    if "no NVIDIA driver" in text:
        return Fault("there is no NVIDIA driver", "install the driver of the card")
    if "No CUDA GPUs" in text:
        return Fault(f"{built} sees no card", "look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES")
    if "no kernel image" in text:
        return Fault(f"{built} was not built for this card", f"install a torch that knows the card ({GUIDE})")
    lines = text.strip().splitlines()
    said = lines[0].rstrip(".") if lines else "no message"
    return Fault(f"{built} cannot use the card: {said}", "look at `nvidia-smi`")
