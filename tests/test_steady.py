import torch

from genve_core.conditioning.flow import FlowConfig
from genve_core.decoder.steady import steadied


def moving(frames=5, h=24, w=40, dx=2):
    """Smooth frames (f, 3, h, w) that move dx pixels to the right each, and the flow to the next and the previous."""
    xs = torch.arange(w + frames * dx).float()
    scene = torch.stack([torch.sin(xs / k) for k in (3.0, 5.0, 7.0)])[:, None].expand(3, h, -1) * 0.5
    clip = torch.stack([scene[..., (frames - i) * dx : (frames - i) * dx + w] for i in range(frames)])
    forward, backward = torch.zeros(frames, 2, h, w), torch.zeros(frames, 2, h, w)
    forward[:-1, 0], backward[1:, 0] = dx, -dx
    return clip, forward, backward


def run(clip, forward, backward, strength=1.0):
    return torch.stack(list(steadied(iter(clip), forward, backward, strength, FlowConfig(reduce=1))))


def test_a_clip_that_moves_as_its_flow_says_is_left_alone():
    clip, forward, backward = moving()
    assert (run(clip, forward, backward) - clip)[..., 6:-6].abs().max() < 1e-3


def test_flicker_along_the_motion_gets_smaller():
    clip, forward, backward = moving(9)
    flicker = 0.02 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    left = run(clip + flicker, forward, backward) - clip
    assert left[1:-1, ..., 6:-6].std() < 0.75 * flicker.std()


def test_strength_zero_and_single_frames_change_nothing():
    clip, forward, backward = moving()
    assert torch.equal(run(clip, forward, backward, 0.0), clip)
    assert torch.equal(run(clip[:1], forward[:1] * 0, backward[:1]), clip[:1])


def test_neighbours_that_differ_are_left_out():
    clip, forward, backward = moving(3)
    clip = clip.clone()
    clip[1] = -0.9  # another scene flashes up
    result = run(clip, forward, backward)
    assert (result[0] - clip[0]).abs().max() < 0.02
    assert (result[1] - clip[1]).abs().max() < 0.02


def test_frames_further_apart_have_to_agree_better():
    clip, flow = torch.zeros(3, 3, 24, 40), torch.zeros(3, 2, 24, 40)
    clip[0] = 0.1
    result = torch.stack(list(steadied(iter(clip), flow, flow, 1.0, FlowConfig(reduce=1), reach=2)))
    assert 0 < result[2].mean() < 0.5 * result[1].mean()


def test_it_does_not_matter_of_how_many_frames_ways_are_found_at_once():
    clip, forward, backward = moving(7)
    clip = clip + 0.02 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    results = [torch.stack(list(steadied(iter(clip), forward, backward, 1.0, FlowConfig(reduce=1), 2, chunk)))
               for chunk in (1, 3, 7, 20)]
    assert all(torch.equal(results[0], other) for other in results[1:])
