"""Sharded parameters (FSDP2) in a group of one process: gathered, shared out and written as if they were whole."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from genve_core.training.sharding import gather_into, share_of, unsharded, whole

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def sharded(tmp_path):
    """A network, and the same network sharded."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    network[1].running_mean += 1
    yield network, fully_shard(copy.deepcopy(network), mesh=init_device_mesh("cpu", (1,)))
    dist.destroy_process_group()


def test_a_share_is_gathered_and_shared_out_again(sharded):
    network, shares = sharded
    for full, share in zip(network.parameters(), shares.parameters()):
        assert type(share.data) is not torch.Tensor
        assert torch.equal(whole(share), full)
        assert torch.equal(whole(share_of(full.detach() + 1, share)), full + 1)


def test_inside_unsharded_parameters_are_whole_and_parts_can_be_used(sharded):
    network, shares = sharded
    image = torch.rand(1, 3, 7, 7)
    with unsharded(shares), torch.no_grad():
        assert torch.equal(shares[0](image), network[0](image))
    assert whole(shares[0].weight) is not shares[0].weight


def test_an_unsharded_twin_takes_parameters_and_buffers(sharded):
    network, shares = sharded
    twin = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    gather_into(twin, shares)
    for name, tensor in network.state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor), name


def test_without_sharding_nothing_is_changed():
    network, tensor = nn.Linear(2, 3), torch.rand(4)
    assert whole(tensor) is tensor and share_of(tensor, torch.zeros(4)) is tensor
    with unsharded(network):
        assert torch.equal(network(torch.ones(1, 2)), network.weight.sum(1)[None] + network.bias)
