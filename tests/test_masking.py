import pytest
import torch

from genve_core.conditioning.masking import apply_mask, block_mask
from genve_core.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("ratio", "masked"), [(0.0, 0), (0.01, 0), (0.4, 14), (0.51, 18), (0.99, 35), (1.0, 35)]
)
def test_the_share_of_masked_blocks_is_exact_in_every_frame(ratio, masked):
    keep = block_mask((2, 4, 1, 20, 28), ratio, 4, generator())  # 5 x 7 = 35 blocks
    blocks = keep.view(8, 5, 4, 7, 4)
    assert set(keep.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(blocks.amin((2, 4)), blocks.amax((2, 4))), "a block is only partly masked"
    assert (blocks[:, :, 0, :, 0] == 0).sum((1, 2)).tolist() == [masked] * 8


def test_edge_blocks_are_cut_and_count_as_blocks():
    keep = block_mask(
        (1, 50, 1, 5, 7), 0.5, 4, generator()
    )  # 2 x 2 blocks, the right and bottom ones smaller
    corners = keep[0, :, 0][:, [0, 0, 4, 4], [0, 6, 0, 6]]
    assert (corners.sum(1) == 2).all()
    assert keep.shape == (1, 50, 1, 5, 7)


def test_every_frame_has_a_mask_of_its_own_and_every_block_its_turn():
    keep = block_mask((1, 200, 1, 6, 9), 0.5, 3, generator())[0, :, 0]
    assert not torch.equal(keep[0], keep[1])
    share = keep.mean(0)
    assert share.min() > 0.35 and share.max() < 0.65, share


def test_each_clip_has_its_own_ratio():
    keep = block_mask((3, 2, 1, 10, 10), torch.tensor([0.0, 0.2, 1.0]), 1, generator())
    assert keep.mean((1, 2, 3, 4)).tolist() == pytest.approx([1.0, 0.8, 0.0])


def test_the_same_generator_state_gives_the_same_mask():
    first, again, other = (block_mask((1, 3, 1, 8, 9), 0.4, 2, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_masked_and_invalid_positions_are_both_zero():
    Y = torch.randn((2, 3, 4, 8, 9), generator=generator())
    keep = block_mask((2, 3, 1, 8, 9), 0.5, 3, generator(1))
    valid = (torch.rand((2, 3, 1, 8, 9), generator=generator(2)) > 0.3).float()
    masked, joint = apply_mask(Y, keep, valid)
    assert torch.equal(joint, keep * valid)
    assert torch.equal(masked, torch.where(joint.bool(), Y, torch.zeros(())))
    only_mask, joint = apply_mask(Y, keep)
    assert torch.equal(joint, keep) and torch.equal(only_mask[:, :, :1] != 0, keep.bool())
    assert apply_mask(Y.bfloat16(), keep)[0].dtype == torch.bfloat16


def test_wrong_arguments_are_refused():
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"mask ratio must be in \[0, 1\], got"):
            block_mask((1, 1, 1, 4, 4), ratio, 2, generator())
    with pytest.raises(ValueError, match=r"mask ratio must be one number or \(2,\), got \(3,\)"):
        block_mask((2, 1, 1, 4, 4), torch.tensor([0.1, 0.2, 0.3]), 2, generator())
    with pytest.raises(InputError, match="mask block must be at least 1 latent position, got 0"):
        block_mask((1, 1, 1, 4, 4), 0.5, 0, generator())
    with pytest.raises(ValueError, match="a mask has 1 channel, got 4"):
        block_mask((1, 1, 4, 4, 4), 0.5, 2, generator())
