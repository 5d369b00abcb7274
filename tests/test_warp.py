import pytest
import torch

from genve_core.conditioning.warp import compose, inside, resize_flow, sample_positions, warp, warp_latent


def picture(h: int, w: int, channels: int = 3, n: int = 1) -> torch.Tensor:
    return torch.rand((n, channels, h, w), generator=torch.Generator().manual_seed(0)) * 2 - 1


def shift(dx: float, dy: float, h: int, w: int, n: int = 1) -> torch.Tensor:
    return torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1).expand(n, 2, h, w).clone()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("h", "w"), [(13, 17), (32, 64), (67, 301)])
def test_a_shift_by_whole_pixels_copies_them_to_the_bit(interpolation, h, w):
    image = picture(h, w)
    result = warp(image, shift(3, -2, h, w), interpolation)
    assert torch.equal(result[..., 2:, : w - 3], image[..., : h - 2, 3:])


def test_positions_outside_read_the_nearest_border_pixel():
    image = picture(5, 7)
    result = warp(image, shift(100, 0, 5, 7))
    assert torch.equal(result, image[..., -1:].expand(-1, -1, -1, 7))
    result = warp(image, shift(0, -100, 5, 7), "bicubic")
    assert torch.equal(result, image[..., :1, :].expand(-1, -1, 5, -1))


def test_a_quarter_pixel_mixes_two_neighbours():
    row = torch.tensor([[0.0, 8.0, 16.0, 4.0, 0.0]]).view(1, 1, 1, 5)
    result = warp(row, shift(0.25, 0, 1, 5))
    assert result.flatten().tolist() == [2.0, 10.0, 13.0, 3.0, 0.0]
    assert warp(row.mT, shift(0, 0.25, 5, 1)).flatten().tolist() == [2.0, 10.0, 13.0, 3.0, 0.0]


def test_the_dtype_of_the_image_is_kept_and_zero_flow_changes_nothing():
    image = picture(9, 11).half()
    assert torch.equal(warp(image, shift(0, 0, 9, 11)), image)


def test_two_shifts_compose_to_their_sum():
    total = compose(shift(2, -1, 9, 11), shift(0.5, 3, 9, 11))
    assert torch.equal(total, shift(2.5, 2, 9, 11))


def test_composing_follows_the_point_to_where_the_second_flow_holds():
    second = torch.zeros(1, 2, 5, 9)
    second[:, 0, :, 4:] = 3.0  # only the right half moves on
    total = compose(shift(2, 0, 5, 9), second)
    assert total[0, 0, 0].tolist() == [2, 2, 5, 5, 5, 5, 5, 5, 5]


def test_inside_is_the_frame_and_half_a_pixel_around_it():
    assert inside(shift(1.5, 0, 3, 5))[0, 0, 0].tolist() == [1, 1, 1, 1, 0]
    assert inside(shift(1.5, 0, 3, 5), margin=0)[0, 0, 0].tolist() == [1, 1, 1, 0, 0]
    assert inside(shift(0, -1, 3, 5))[0, 0, :, 0].tolist() == [0, 1, 1]


def test_positions_are_the_pixel_and_its_flow():
    x, y = sample_positions(shift(10, -20, 3, 5))[0]
    assert x[2].tolist() == [10, 11, 12, 13, 14] and y[:, 4].tolist() == [-20, -19, -18]


@pytest.mark.parametrize("size", [(3, 14), (18, 7), (12, 28), (6, 14), (4, 10)])
def test_resizing_a_flow_scales_each_component_by_its_axis(size):
    result = resize_flow(shift(2, -3, 6, 14), size)
    assert result.shape[-2:] == size
    assert torch.allclose(result, shift(2 * size[1] / 14, -3 * size[0] / 6, *size))


def test_a_latent_is_warped_in_its_own_pixels_and_zero_where_nothing_is_known():
    y = picture(4, 6, channels=5)[0]
    valid = torch.ones(2, 1, 32, 48)
    valid[1, :, :, :8] = 0  # the first latent column of the second frame
    valid[1, :, :8, 8:11] = 0  # 3 of 8 columns: most of this latent pixel is known
    result = warp_latent(y, shift(8, 0, 32, 48, n=2), valid)
    assert torch.equal(result[0, :, :, :-1], y[:, :, 1:])
    assert (result[1, :, :, 0] == 0).all()
    assert torch.equal(result[1, :, :, 1:-1], y[:, :, 2:])


@pytest.mark.parametrize("shape", [(1, 2, 5, 8), (1, 2, 6, 7), (2, 2, 5, 7), (1, 3, 5, 7)])
def test_a_flow_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match=r"flow must be \(1, 2, 5, 7\) to warp an image \(1, 3, 5, 7\), got .*resize_flow"):
        warp(picture(5, 7), torch.zeros(shape))
