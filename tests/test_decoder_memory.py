"""Decoding at another noise level from what was seen before: the same to the bit, and forgotten when it must be."""

from dataclasses import replace

import pytest
import torch
from media_clips import smooth_video

from genve_core.bundle import load_bundle
from genve_core.clip import Clip
from genve_core.decode import decode_clip
from genve_core.decoder.detail_decoder import DetailDecoder
from genve_core.decoder.memory import DecoderMemory
from genve_core.models import Models
from genve_core.steps import encode_clip, find_flow, given_reference


@pytest.fixture
def made(tiny_bundle):
    """(models, clip, Z, flow, references) of 6 frames, taken up to 48x80 px."""
    models, clip = Models(load_bundle(tiny_bundle), "cpu"), Clip(smooth_video(6, 24, 40), (48, 80))
    reference = given_reference(models, clip, smooth_video(1, 48, 80, seed=1)[0], 2)
    return models, clip, encode_clip(models, clip), find_flow(models, clip, [2]), [reference]


@pytest.fixture
def looks(monkeypatch):
    """How often the decoder looked."""
    seen, look = [], DetailDecoder.look
    monkeypatch.setattr(DetailDecoder, "look", lambda self, inputs: (seen.append(len(inputs.up)), look(self, inputs))[1])
    return seen


def frames(made, memory, Z_0=None, references=None, **settings):
    models, clip, Z, flow, given = made
    settings = {"n": 250, "chunk": 4, **settings}
    given = given if references is None else references
    return torch.stack(list(decode_clip(models, clip, Z if Z_0 is None else Z_0, flow, given, memory=memory, **settings)))


def test_other_latents_and_another_n_need_no_second_look(made, looks):
    memory, other = DecoderMemory(), torch.randn_like(made[2])
    first = frames(made, memory)
    assert looks == [2, 2, 2]  # of four frames two lie across
    second = frames(made, memory, Z_0=other, n=100)
    assert looks == [2, 2, 2]  # of four frames two lie across
    assert torch.equal(first, frames(made, None)) and torch.equal(second, frames(made, None, Z_0=other, n=100))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("change", [{"strength": 0.5}, {"strength": 0.0}, {"chunk": 3}])
def test_other_settings_are_looked_at_anew(made, looks, change):
    memory = DecoderMemory()
    frames(made, memory)
    before = len(looks)
    changed = frames(made, memory, **change)
    assert len(looks) == before + 3 and torch.equal(changed, frames(made, None, **change))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_another_decoder_looks_anew(made, looks, share):
    memory = DecoderMemory()
    plain = frames(made, memory)
    other = (made[0].for_preclean(share), *made[1:])
    found = frames(other, memory)
    assert len(looks) == 6 and torch.equal(found, frames(other, None)) and not torch.equal(found, plain)
    frames(other, memory, n=100)
    assert len(looks) == 9  # three without a memory; a mean of decoders is the same one when it is asked for again


def test_another_reference_or_flow_is_looked_at_anew(made, looks):
    memory = DecoderMemory()
    frames(made, memory)
    other = [replace(made[4][0], image=-made[4][0].image)]
    assert torch.equal(frames(made, memory, references=other), frames(made, None, references=other))
    still = (*made[:3], replace(made[3], forward=0 * made[3].forward), made[4])
    assert torch.equal(frames(still, memory), frames(still, None))
    assert looks == 5 * [2, 2, 2]


def test_beyond_the_limit_parts_are_looked_at_every_time(made, looks):
    whole = DecoderMemory()
    frames(made, whole)
    assert whole.bytes == sum(x.nbytes for x in whole.tensors()) > 0
    small = DecoderMemory(whole.bytes - 1)  # the first part fits, the second does not
    looks.clear()
    assert torch.equal(frames(made, small), frames(made, small))
    assert looks == [2, 2, 2, 2] and 0 < small.bytes < whole.bytes
    frames(made, small, strength=0.3)
    assert small.bytes == sum(x.nbytes for x in small.tensors())

