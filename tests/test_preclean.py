import copy
from dataclasses import replace

import pytest
import torch
from media_clips import moving_pattern

from genve_core.bundle import load_bundle
from genve_core.clip import on_grid
from genve_core.decoder.detail_decoder import DetailDecoder
from genve_core.pipeline import EnhanceConfig, Enhancer, enhance
from genve_core.segments import InMemory

SHARED = {"precision": "float32"}


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def trained_for_it(bundle):
    """The decoder for precleaned frames, as if it were the only one."""
    return replace(bundle, components=bundle.components | {"decoder": bundle["decoder_precleaned"]})


def mean_of_both(bundle, share):
    """The mean of both decoders, weight by weight, as if it were the only one."""
    plain, precleaned = (bundle[name].state_dict() for name in ("decoder", "decoder_precleaned"))
    mean = copy.deepcopy(bundle["decoder"])
    # to the bit: optical flow can make a step of a last bit
    mean.load_state_dict({key: torch.lerp(x, precleaned[key], share) for key, x in plain.items()})
    return replace(bundle, components={**bundle.components, "decoder": mean})


@pytest.fixture(scope="module")
def clip():
    """Twenty frames, 24 x 32 px, with noise."""
    noise = torch.randn(20, 3, 24, 32, generator=torch.Generator().manual_seed(3))
    return (moving_pattern(20, 24, 32) + 0.1 * noise).clamp(-1, 1)


def run(clip, bundle, reference=None, **config):
    return enhance(clip, bundle=bundle, device="cpu", reference=reference, **{**SHARED, **config})


def by_hand(clip, bundle, share=1.0):
    return on_grid(torch.lerp(clip, run(clip, bundle, scale=1.0, noise_level=0, reference_strength=0.0), share))


def test_it_is_what_a_person_would_do_with_two_runs(clip, bundle, trained_for_it):
    cleaned = by_hand(clip, trained_for_it)
    assert not torch.equal(cleaned, clip)
    assert torch.equal(run(clip, bundle, scale=2.0, preclean=1.0, key_frame=7),
                       run(cleaned, trained_for_it, scale=2.0, key_frame=7))


@pytest.mark.parametrize("share", [0.4, 0.01])
def test_below_one_the_decoders_are_mixed_as_the_frames_are(clip, bundle, share):
    mean = mean_of_both(bundle, share)
    wanted = run(by_hand(clip, mean, share), mean, scale=2.0, key_frame=7)
    torch.testing.assert_close(run(clip, bundle, scale=2.0, preclean=share, key_frame=7), wanted, atol=1e-4, rtol=0)


def test_the_dial_has_no_step_at_its_lower_end(clip, bundle):
    off, least, whole = (run(clip, bundle, scale=2.0, preclean=share, key_frame=7) for share in (0.0, 0.001, 1.0))
    # on the mean: what little the flow changes turns a few pixels over, as valid or not
    assert (least - off).abs().mean() < 0.02 * (whole - off).abs().mean()


def test_decoders_that_differ_are_not_mixed(clip, bundle, trained_for_it):
    deeper = replace(bundle, components=bundle.components | {"decoder": bundle["decoder"].deepened((1, 1, 2, 1, 1))})
    assert torch.equal(run(clip, deeper, scale=2.0, preclean=0.4, key_frame=7),
                       run(by_hand(clip, trained_for_it, 0.4), trained_for_it, scale=2.0, key_frame=7))


def test_emphasis_is_mixed_too():
    plain, precleaned = (DetailDecoder(4, (8, 8, 8), (1, 1, 1, 1, 1), full_noise=400, emphasis=x) for x in (0.2, 0.4))
    assert plain.like(precleaned) and plain.mixed(precleaned, 0.75).config["emphasis"] == pytest.approx(0.35)
    assert not plain.like(plain.deepened((1, 1, 1, 2, 1)))


def test_without_a_decoder_for_it_the_other_decodes(clip, bundle):
    rest = {name: part for name, part in bundle.components.items() if name != "decoder_precleaned"}
    without = replace(bundle, components=rest)
    assert torch.equal(run(clip, without, scale=2.0, preclean=1.0, key_frame=7),
                       run(by_hand(clip, bundle), bundle, scale=2.0, key_frame=7))


def test_the_users_picture_is_taken_as_it_is(clip, bundle, trained_for_it):
    picture = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    settings = {"scale": 2.0, "key_frame": 7, "align": False}
    assert torch.equal(run(clip, bundle, picture, preclean=1.0, **settings),
                       run(by_hand(clip, trained_for_it), trained_for_it, picture, **settings))


def test_segments_give_what_the_whole_gives(clip, bundle):
    settings = {"scale": 2.0, "preclean": 1.0, "key_frame": 15}
    torch.testing.assert_close(run(clip, bundle, segment=5, **settings), run(clip, bundle, **settings), atol=1e-4, rtol=0)


@pytest.mark.parametrize("segment", [4, 96])
def test_frames_can_be_read_in_any_order(clip, bundle, segment):
    enhancer = Enhancer(bundle, EnhanceConfig(scale=2.0, preclean=0.7, segment=segment, **SHARED), "cpu")
    cleaned, wanted = enhancer.prepared(InMemory(clip)), by_hand(clip, mean_of_both(bundle, 0.7), 0.7)
    assert len(cleaned) == len(clip)
    reads = [(cleaned.read_near(18, 3), wanted[15:]), (cleaned.read(range(0, 6)), wanted[:6]),
             (cleaned.read(range(3, 9)), wanted[3:9]), (cleaned.read(range(9, 12)), wanted[9:12]),
             (cleaned.read_one(18), wanted[18]), (cleaned.read(range(2, 5)), wanted[2:5]), (cleaned.read_one(0), wanted[0])]
    for read, there in reads:
        torch.testing.assert_close(read, there, atol=1e-4, rtol=0)


def test_a_shot_of_one_segment_is_cleaned_once(clip, bundle):
    told = []
    run(clip, bundle, scale=2.0, preclean=1.0, on_progress=lambda *said: told.append(said))
    stages = [stage for stage, _, _ in told]
    assert sum(said == ("preclean", len(clip), len(clip)) for said in told) == 1
    assert stages.index("encode") > max(i for i, stage in enumerate(stages) if stage == "preclean")


def test_off_there_is_no_first_pass(clip, bundle):
    shot = InMemory(clip)
    assert Enhancer(bundle, EnhanceConfig(**SHARED), "cpu").prepared(shot) is shot
