"""The precision that `auto` takes on a CPU: the faster one."""

import pytest
import torch

from genve_core.devices import cpu_gains_by_bf16, has_bf16

INTEL, AMD = "vendor_id\t: GenuineIntel", "vendor_id\t: AuthenticAMD"
WINDOWS = "Intel64 Family 6 Model 207 Stepping 2, GenuineIntel"


@pytest.mark.parametrize("maker, avx512_bf16, amx, faster", [
    (INTEL, True, True, True), (INTEL, True, False, False), (WINDOWS, True, False, False), (AMD, True, False, True),
    (AMD, False, False, False), (INTEL, False, False, False), ("arm", False, False, False),
])
def test_bf16_is_taken_where_convolution_gains_by_it(maker, avx512_bf16, amx, faster):
    assert cpu_gains_by_bf16(maker, avx512_bf16, amx) is faster


def test_this_cpu_can_be_asked_even_by_a_torch_that_does_not_know_its_features(monkeypatch):
    known = has_bf16(torch.device("cpu"))
    assert known in (True, False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert has_bf16(torch.device("cpu")) is False
