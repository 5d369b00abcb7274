"""`python -m genve_core.training.average`: the mean of fine-tunes."""

import pytest
import torch

from genve_core.bundle import load_bundle, save_component
from genve_core.decoder.detail_decoder import DetailDecoder
from genve_core.errors import InputError
from genve_core.training.average import main
from genve_core.training.start import copy_bundle


@pytest.fixture
def tunes(tiny_bundle, tmp_path):
    """The start, and a copy of it in which all the decoder's weights are 0.5 larger."""
    copy_bundle(tiny_bundle, tmp_path / "tuned")
    decoder = load_bundle(tmp_path / "tuned")["decoder"]
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.5
    save_component(tmp_path / "tuned", "decoder", decoder)
    return str(tiny_bundle), str(tmp_path / "tuned")


def test_the_mean_has_its_share_of_each_and_the_rest_of_the_first(tunes, tmp_path):
    start, tuned = tunes
    main(["decoder", f"{start}=0.75", f"{tuned}=0.25", "--into", str(tmp_path / "mean")])
    first, mean = load_bundle(start), load_bundle(tmp_path / "mean")
    learnt = dict(first["decoder"].named_parameters())
    for key, value in first["decoder"].state_dict().items():  # how latents are turned is the same in both
        wanted = value + 0.125 if key in learnt else value
        assert torch.allclose(mean["decoder"].state_dict()[key].float(), wanted.float(), atol=2e-3), key
    for key, value in first["vae"].state_dict().items():
        assert torch.equal(mean["vae"].state_dict()[key], value)
    assert mean.training[-1]["weights"] == [0.75, 0.25]


def test_what_cannot_be_averaged_is_refused(tunes, tmp_path):
    start, tuned = tunes
    into = ["--into", str(tmp_path / "mean")]
    with pytest.raises(InputError, match="weights add up to 1, got"):
        main(["decoder", f"{start}=0.5", f"{tuned}=0.6", *into])
    with pytest.raises(InputError, match="two or more whose weights add up to 1, got"):
        main(["decoder", f"{start}=1", *into])
    with pytest.raises(InputError, match=r"BUNDLE=WEIGHT, such as genve-mini=0\.5, got"):
        main(["decoder", start, tuned, *into])
    save_component(tmp_path / "tuned", "decoder", DetailDecoder(16, (8, 8, 8), (1, 1, 1, 1, 1)))
    with pytest.raises(InputError, match=r"decoder of bundle .*tuned has another size than that of"):
        main(["decoder", f"{start}=0.5", f"{tuned}=0.5", *into])
    assert not (tmp_path / "mean").exists()


def test_the_mean_can_become_another_component(tunes, tmp_path):
    start, tuned = tunes
    main(["decoder", f"{start}=0", f"{tuned}=1", "--as", "decoder_precleaned", "--into", str(tmp_path / "both")])
    both = load_bundle(tmp_path / "both")
    for component, source in (("decoder", start), ("decoder_precleaned", tuned)):
        wanted = load_bundle(source)["decoder"].state_dict()
        assert all(torch.equal(both[component].state_dict()[key], value) for key, value in wanted.items()), component
    assert both.training[-1]["stage"] == "decoder_precleaned: mean of fine-tunes"


def test_a_bundle_without_a_share_does_not_say_what_the_mean_is_like(tunes, tmp_path):
    start, tuned = tunes
    firmer = load_bundle(tuned)["decoder"]
    firmer.register_to_config(emphasis=0.4)
    save_component(tmp_path / "tuned", "decoder", firmer)
    main(["decoder", f"{start}=0", f"{tuned}=1", "--as", "decoder_precleaned", "--into", str(tmp_path / "both")])
    both = load_bundle(tmp_path / "both")
    assert [both[name].config["emphasis"] for name in ("decoder", "decoder_precleaned")] == [0.0, 0.4]


def test_a_bundle_without_a_share_may_have_another_size(tunes, tmp_path):
    start, tuned = tunes
    finer = load_bundle(tuned)["decoder"].with_fine()
    save_component(tmp_path / "tuned", "decoder", finer)
    main(["decoder", f"{start}=0", f"{tmp_path / 'tuned'}=1", "--as", "decoder_1x", "--into", str(tmp_path / "both")])
    both = load_bundle(tmp_path / "both")
    assert [both[name].fine for name in ("decoder", "decoder_1x")] == [False, True]
    assert both["decoder_1x"].head.weight.shape == finer.head.weight.shape


def test_a_component_of_one_bundle_becomes_another(tunes, tmp_path):
    start, tuned = tunes
    main(["decoder", f"{start}=0", f"{tuned}=1", "--as", "decoder_precleaned", "--into", str(tmp_path / "both")])
    main(["decoder_precleaned", f"{tmp_path / 'both'}=1", "--as", "decoder", "--into", str(tmp_path / "start")])
    made, wanted = load_bundle(tmp_path / "start")["decoder"], load_bundle(tuned)["decoder"]
    assert all(torch.equal(made.state_dict()[key], value) for key, value in wanted.state_dict().items())
