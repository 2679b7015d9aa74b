"""A lease that could not be renewed in time is refused when it is made."""

import pytest

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease


def test_the_retry_must_fit_into_the_duration() -> None:
    with pytest.raises(ValueError, match="retry_s: found 8; allowed: above 0 and below half of duration_s 15"):
        LeaderLease(Gateway(plain("http://127.0.0.1:1")), "ns", "l", "me", retry_s=8)
