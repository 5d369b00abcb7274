import pytest
import torch

from genve_core.bundle import load_bundle
from genve_core.clip import ClipFlow, Reference
from genve_core.errors import InputError
from genve_core.evaluation.attention import carried_picture, look
from genve_core.models import Models

SIZE = (60, 90)  # px; padded to 64 x 96: 8 x 12 latents, 4 x 6 patches of 16 px


@pytest.fixture(scope="module")
def models(tiny_bundle):
    return Models(load_bundle(tiny_bundle), "cpu", precision="float32")


@pytest.fixture
def latents():
    return torch.randn(1, 3, 4, 8, 12), torch.randn(1, 3, 4, 8, 12)


@pytest.mark.parametrize(("at", "query"), [((0, 0), (0, 0)), ((0.5, 0.5), (2, 1)), ((1, 1), (5, 3)), ((0.2, 1), (1, 3))])
def test_the_place_in_the_frame_names_the_patch(models, latents, at, query):
    seen = look(models, *latents, 1, at, SIZE)
    assert seen.query == query and seen.token == 16
    assert seen.attention.shape == (4, 6) and float(seen.attention.sum()) == pytest.approx(1, abs=1e-5)
    (controller,) = models.ready("controller")
    with torch.inference_mode():
        expected = controller.lca.attention_map(latents[0], latents[1], query)[0, 1]
    assert torch.allclose(seen.attention, expected)


def test_a_wrong_frame_place_or_size_is_refused(models, latents):
    Z_n, Y_n = latents
    with pytest.raises(InputError, match="frame 3 is not in the clip of 3 frames; choose from 0 to 2"):
        look(models, Z_n, Y_n, 3, (0, 0), SIZE)
    for at in ((1.1, 0), (0, -0.1)):
        with pytest.raises(InputError, match=r"x and y must be in \[0, 1\]"):
            look(models, Z_n, Y_n, 0, at, SIZE)
    with pytest.raises(InputError, match="they are of different clips"):
        look(models, Z_n, Y_n[:, :2], 0, (0, 0), SIZE)


def test_a_controller_without_reference_has_nothing_to_show(models, latents):
    (controller,) = models.ready("controller")
    config = controller.lca.config
    object.__setattr__(config, "variant", "none")
    try:
        with pytest.raises(InputError, match="looks at no reference"):
            look(models, *latents, 0, (0, 0), SIZE)
    finally:
        object.__setattr__(config, "variant", "window")


def test_the_carried_picture_is_the_reference_where_the_flow_leads_and_shares_sum_up():
    image = torch.rand(3, 32, 48) * 2 - 1
    still, half = torch.zeros(5, 2, 16, 24), torch.ones(5, 1, 16, 24)
    half[..., 12:] = 0
    moved = still.clone()
    moved[:, 0] = 2.0  # 4 px of the picture to the right
    flow = ClipFlow(still, still, {0: moved, 4: still}, {0: half, 4: half})
    one, two = (Reference(key, image, torch.zeros(4, 4, 6), torch.ones(1, 32, 48)) for key in (0, 4))
    carried, reach = carried_picture([one], flow, 3)
    assert torch.allclose(carried[:, :, :20], image[:, :, 4:24], atol=1e-5)
    assert reach[0, :, :20].min() == 1 and reach[0, :, 28:].max() == 0
    both, _ = carried_picture([one, two], flow, 4)
    assert torch.allclose(both[:, :, :20], image[:, :, :20], atol=1e-5)  # at its own key frame the second alone
