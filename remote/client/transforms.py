"""Whether operators are transformed as they come, so that none of several may be sent as one."""

import torch
from torch.autograd import forward_ad


def are_active() -> bool:
    """Of ``torch.func``, or forward-mode differentiation."""
    return bool(torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0)
