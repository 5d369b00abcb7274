"""Flow freed of the codec's jitter: a scene in steady motion whose frames are each shifted by a fraction of a pixel."""

import cv2
import numpy as np
import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.conditioning.calm import CalmFrames, calm_neighbour_flow, context, settled, trusted
from genve_core.conditioning.flow import FlowConfig, dis_flow, key_frame_flow, neighbour_flow, reduce_frames
from genve_core.errors import InputError
from genve_core.models import Models
from genve_core.steps import between_flow, calm_frame, find_flow, key_flow

SPEED = 1.5  # px a frame
FRAMES, H, W, KEY = 15, 96, 128, 7
INNER = (..., slice(16, -16), slice(16, -16))


def shaky(jitter: float, seed: int = 1, count: int = FRAMES, turn: int | None = None) -> torch.Tensor:
    """(count, 3, H, W) in [-1, 1]: a texture that moves right at SPEED, each frame about `jitter` px beside its place.

    turn: the frame from which on it moves back.
    """
    rng = np.random.default_rng(seed)
    sharp = rng.normal(0, 1, (H + 20, W + 60, 3)).astype(np.float32)
    scene = sum(cv2.GaussianBlur(sharp, (0, 0), s) * s for s in (2, 5, 10))
    scene = np.clip(scene / np.abs(scene).max() * 1.5, -1, 1)
    gone = [i if turn is None or i < turn else 2 * turn - i for i in range(count)]
    places = [(40 - SPEED * i + dx, 10 + dy) for i, (dx, dy) in zip(gone, rng.normal(0, jitter, (count, 2)), strict=True)]
    views = [cv2.warpAffine(scene, np.float32([[1, 0, -x], [0, 1, -y]]), (W, H), flags=cv2.INTER_CUBIC) for x, y in places]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous()


def calm_frames(frames, config=FlowConfig(reduce=1)):
    asked = []
    return CalmFrames(lambda span: (asked.append(span), frames[span.start : span.stop])[1], len(frames), config), asked


@pytest.fixture(scope="module")
def models(tiny_bundle):
    return Models(load_bundle(tiny_bundle), "cpu")


def errors(flow):
    """Mean distance in px from the steady motion: of the flow to the key frame and of that to the next frame."""
    to_key = torch.tensor([[SPEED * (KEY - i), 0.0] for i in range(FRAMES)]).view(-1, 2, 1, 1) / 2
    ahead = torch.tensor([SPEED, 0.0]).view(1, 2, 1, 1) / 2
    return [float(2 * (found - true)[INNER].square().sum(1).sqrt().mean())
            for found, true in ((flow.to_key[KEY], to_key), (flow.forward[:-1], ahead))]


def test_jitter_is_taken_out_of_the_flow_and_steady_motion_stays(models):
    shaken, still = (Clip(shaky(jitter), (H, W)) for jitter in (0.4, 0.0))
    plain, calm, steady = (errors(find_flow(models, clip, [KEY], FlowConfig(average=average)))
                           for clip, average in ((shaken, 0), (shaken, 3), (still, 3)))
    assert calm[0] < 0.75 * plain[0] and calm[1] < 0.55 * plain[1], (plain, calm)
    assert max(steady) < 0.1, steady


def test_frames_that_have_settled_have_the_better_flow(models):
    once, twice = (errors(find_flow(models, Clip(shaky(0.4), (H, W)), [KEY], FlowConfig(settle=settle))) for settle in (0, 1))
    assert twice[0] < 0.9 * once[0] and twice[1] < 0.9 * once[1], (once, twice)


def test_where_motion_turns_frames_are_not_averaged_beside_each_other():
    frames, apart = shaky(0.0, turn=7), []
    for most in (0.5, 1e6):  # px that steps may be off their mean
        averaged = calm_frames(frames, FlowConfig(reduce=1, most_jitter=most))[0].averaged(range(7, 8))
        apart.append(float((averaged - frames[7:8])[INNER].abs().mean()))
    assert apart[0] < 0.2 * apart[1], apart


def test_settled_frames_do_not_depend_on_how_many_are_asked_for():
    frames = shaky(0.4)
    read, at_once = (settled(lambda span: frames[span.start : span.stop], FRAMES, FlowConfig(reduce=1)) for _ in range(2))
    assert torch.equal(torch.cat([read(range(i, i + 3)) for i in range(0, FRAMES, 3)]), at_once(range(FRAMES)))
    for config in (FlowConfig(settle=0), FlowConfig(average=0)):
        assert settled(frames.__getitem__, FRAMES, config) == frames.__getitem__


def test_without_averages_it_is_the_flow_between_frames_as_they_are(models):
    config, frames = FlowConfig(average=0), shaky(0.4)
    reduced = reduce_frames(Clip(frames, (H, W)).up(slice(None), torch.device("cpu")), config)
    flow = find_flow(models, Clip(frames, (H, W)), [KEY], config)
    to_key, valid = key_frame_flow(reduced, reduced[KEY], config, dis_flow, [KEY])
    assert torch.equal(flow.to_key[KEY], to_key) and torch.equal(flow.valid[KEY], valid)
    assert all(torch.equal(a, b) for a, b in zip((flow.forward, flow.backward), neighbour_flow(reduced, dis_flow)))
    assert context(config) == 0


def test_averages_do_not_depend_on_how_many_are_asked_for_and_every_frame_is_read_once():
    frames = shaky(0.4)
    whole, _ = calm_frames(frames)
    parts, asked = calm_frames(frames)
    found = torch.cat([parts.averaged(range(i, min(i + 4, FRAMES))) for i in range(0, FRAMES, 4)])
    assert torch.equal(found, whole.averaged(range(FRAMES)))
    assert [i for span in asked for i in span] == list(range(FRAMES))
    assert torch.equal(parts.frames(range(12, 15)), frames[12:15])


def test_an_average_keeps_what_the_neighbours_do_not_show():
    frames = shaky(0.0)
    frames[8, :, 30:50, 40:60] = 1.0  # a flash
    averaged = calm_frames(frames)[0].averaged(range(8, 9))[0]
    assert averaged[:, 34:46, 44:56].min() > 0.95


def test_one_frame_and_two_are_enough(models):
    for count in (1, 2):
        flow = find_flow(models, Clip(shaky(0.4)[:count], (H, W)), [0])
        assert len(flow.forward) == count and torch.isfinite(flow.to_key[0]).all()
        assert (flow.to_key[0][0] == 0).all() and (flow.valid[0][0] == 1).all()
        assert (flow.forward[-1] == 0).all() and (flow.backward[0] == 0).all()


def test_what_is_no_jitter_is_not_believed():
    config = FlowConfig(reduce=2, most_jitter=1.4)
    apart = torch.tensor([0.0, 0.35, 0.7, 2.8]).view(4, 1, 1, 1) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert trusted(apart, torch.zeros_like(apart), config).flatten().tolist() == pytest.approx([1, 0.779, 0.368, 0], abs=1e-3)
    steps = torch.zeros(9, 2, 1, 1)
    steps[4, 0] = 9.0  # a jump
    calm_neighbour_flow(steps, steps.clone(), config)
    assert steps[4, 0].item() == pytest.approx(9.0, abs=1e-3) and steps[5:8].abs().max() < 0.2


def test_steps_are_averaged_as_they_were_and_rows_without_one_stay():
    forward = torch.arange(6.0).view(6, 1, 1, 1).repeat(1, 2, 1, 1) * 0.1
    forward[5] = 0  # no next frame
    backward = forward.flip(0)
    calm_neighbour_flow(forward, backward, FlowConfig(most_jitter=1e6))
    assert forward[:, 0].flatten().tolist() == pytest.approx([0.15, 0.2, 0.2, 0.2, 0.25, 0])
    assert torch.allclose(backward.flip(0), forward)


def test_a_part_of_a_shot_has_the_flow_of_the_whole(models):
    config, first = FlowConfig(), 12
    frames, reach = shaky(0.4, count=25), context(config)
    shot = Clip(frames, (H, W))
    whole = find_flow(models, shot, [0], config)
    around = Clip(frames[first - reach : first + 2 + reach], (H, W), first - reach, {0: frames[0]})
    calm = {0: calm_frame(models, shot, 0, config)}
    part = key_flow(models, around, [0], config, calm=calm, rows=slice(reach, reach + 2))
    part = between_flow(models, around, part, config)
    assert part.first == first and len(part.forward) == 2
    for a, b in ((part.to_key[0], whole.to_key[0]), (part.valid[0], whole.valid[0]), (part.forward, whole.forward),
                 (part.backward, whole.backward)):
        assert (a - b[first : first + 2]).abs().max() < 1e-4


def test_a_part_of_a_clip_is_of_its_kind():
    """A graph's clip up-samples in a way of its own; the key frame's average is made of a part of it."""

    class Halved(Clip):
        def up(self, part, device):
            return super().up(part, device) / 2

    clip = Halved(shaky(0.4)[:4], (H, W), 3)
    part = clip.part(slice(1, 3))
    assert type(part) is Halved and (part.first, len(part)) == (4, 2)
    assert torch.equal(part.up(slice(0, 2), torch.device("cpu")), clip.up(slice(1, 3), torch.device("cpu")))


def test_wrong_settings_are_refused():
    for wrong, got in (({"average": -1}, r"-1, 1 and 1\.4"), ({"settle": -2}, r"3, -2 and 1\.4")):
        with pytest.raises(InputError, match=f"flow average and settle must be 0 or more and most_jitter above 0, got {got}"):
            FlowConfig(**wrong)
