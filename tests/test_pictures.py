import math

import pytest
import torch

from genve_core.evaluation.pictures import (
    GAP,
    SHORTEST,
    attention_picture,
    contact_sheet,
    flow_picture,
    hatched,
    metric_plot,
    reduced_picture,
)


def flow_of(*vectors: tuple[float, float]) -> torch.Tensor:
    """A flow (1, 2, 1, n) with these vectors side by side."""
    return torch.tensor(vectors).T.reshape(1, 2, 1, len(vectors))


def test_hues_are_those_of_the_middlebury_wheel():
    # right is red, down yellow, left cyan, up blue to violet (Baker et al. 2007, Fig. 3)
    right, down, left, up = flow_picture(flow_of((9, 0), (0, 9), (-9, 0), (0, -9)))[0, :, 0].T
    assert right[0] == 1 and right[1:].max() < 0.05
    assert down[0] > 0.9 and down[1] > 0.8 and down[2] < 0.05
    assert left[0] < 0.05 and left[1] > 0.8 and left[2] > 0.9
    assert up[0] < 0.5 and up[1] < 0.5 and up[2] == 1


def test_saturation_is_length_on_one_scale_for_the_clip():
    slow, fast = torch.zeros(2, 2, 10, 10)
    slow[0], fast[0] = 2.0, 8.0
    picture = flow_picture(torch.stack([slow, fast]))
    # half red: a quarter of the full length leaves three quarters of white
    assert picture[0, 1].mean() == pytest.approx(0.75, abs=0.02)
    assert picture[1, 1].mean() == pytest.approx(0.0, abs=0.02)
    assert picture.shape == (2, 3, 10, 10) and picture.min() >= 0 and picture.max() <= 1


def test_still_is_white_and_the_noise_of_a_still_clip_is_pale():
    assert torch.equal(flow_picture(torch.zeros(1, 2, 3, 5)), torch.ones(1, 3, 3, 5))
    assert flow_picture(flow_of((0.1 * SHORTEST, 0), (0, 0.05 * SHORTEST))).min() > 0.85


def test_one_outlier_does_not_make_the_rest_pale():
    flow = torch.zeros(1, 2, 20, 20)
    flow[0, 0] = 4.0
    flow[0, 0, 0, 0] = 4000.0
    picture = flow_picture(flow)[0]
    assert picture[1, 5, 5] < 0.05
    assert picture[0, 0, 0] == pytest.approx(0.75)  # beyond the wheel: darker


def test_what_is_not_valid_is_hatched_and_does_not_set_the_scale():
    flow, valid = torch.zeros(1, 2, 16, 16), torch.ones(1, 1, 16, 16)
    flow[:, 0] = 3.0
    flow[..., :8], valid[..., :8] = 300.0, 0.0
    picture = flow_picture(flow, valid)[0]
    assert picture[0, 0, 8:].min() == 1 and picture[1, :, 8:].max() < 0.05
    left = picture[:, :, :8]
    assert left.max() <= 0.5 and len(left.mean(0).unique()) == 2  # lines and what lies between
    assert torch.isfinite(flow_picture(flow, torch.zeros_like(valid))).all()


def test_flow_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"flow must be \(f, 2, h, w\), got \(1, 3, 4, 5\)"):
        flow_picture(torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"valid must be \(1, 1, 4, 5\) like the flow, got \(1, 1, 5, 4\)"):
        flow_picture(torch.zeros(1, 2, 4, 5), torch.ones(1, 1, 5, 4))


def test_hatching_leaves_the_rest_alone():
    picture = torch.rand(3, 9, 11)
    valid = torch.zeros(1, 9, 11)
    valid[..., 5:] = 1
    assert torch.equal(hatched(picture, valid)[..., 5:], picture[..., 5:])
    assert (hatched(picture, valid)[..., :5] <= 0.5).all()


def test_attention_is_yellow_where_it_is_most_and_clear_where_there_is_none():
    frame, reference = torch.full((3, 21, 30), 0.25), torch.full((3, 21, 30), 0.5)
    attention = torch.zeros(3, 4)  # 8 px a patch: reaches over 24x32 px
    attention[2, 3], attention[0, 1] = 0.8, 0.2
    picture = attention_picture(frame, reference, attention, (2, 1), 8)
    assert picture.shape == (3, 21, 60 + GAP)
    left, right = picture[..., :30], picture[..., 30 + GAP :]
    assert right[:, 4, 4].tolist() == pytest.approx([0.4] * 3)  # the reference, a little dimmed
    most, some = right[:, 19, 28], right[:, 4, 12]
    assert most[0] > 0.9 and most[1] > 0.85 and most[2] < 0.1
    assert some[0] > 2 * some[1] and most[1] > 3 * some[1]  # red, not yellow
    assert left[:, 12, 20].tolist() == [0.25] * 3 and left[:, 7, 20].tolist() == [1.0] * 3  # inside, and its frame
    assert left[:, 6, 20].tolist() == [0.0] * 3 and left[:, 4, 20].tolist() == [0.25] * 3


@pytest.mark.parametrize("query", [(0, 0), (3, 2)])
def test_a_patch_at_the_edge_is_framed_too(query):
    picture = attention_picture(torch.zeros(3, 21, 30), torch.zeros(3, 21, 30), torch.ones(3, 4), query, 8)
    assert (picture[:, :, :30] == 1).any()


def test_a_map_that_does_not_reach_over_the_frame_is_refused():
    with pytest.raises(ValueError, match="must reach over 30x21 px"):
        attention_picture(torch.zeros(3, 21, 30), torch.zeros(3, 21, 30), torch.ones(2, 4), (0, 0), 8)


def test_a_sheet_holds_every_picture_in_its_place():
    cells = [[torch.full((3, 30, 40), value) for value in row] for row in ((0.2, 0.4, 0.6), (0.1, 0.3, 0.5))]
    sheet = contact_sheet(cells, ["frame 0", "frame 12"], ["n = 0", "n = 100", "n = 250"])
    h, w = sheet.shape[-2:]
    for row, line in enumerate(cells):
        for column, picture in enumerate(line):
            top, left = h - (2 - row) * (30 + GAP), w - (3 - column) * (40 + GAP)
            assert torch.allclose(sheet[:, top : top + 30, left : left + 40], picture, atol=1 / 255)
    assert sheet[:, :20].min() < 0.5 and sheet[:, 30:50, :30].min() < 0.5  # labels


def test_large_pictures_are_reduced_and_small_ones_kept():
    large = torch.rand(3, 90, 120)
    assert reduced_picture(large, 40).shape == (3, 30, 40)
    assert reduced_picture(large, 40).mean() == pytest.approx(float(large.mean()), abs=1e-4)
    assert reduced_picture(large, 120) is large


def test_a_long_label_is_cut_to_its_column():
    white = torch.ones(3, 20, 60)
    sheet = contact_sheet([[white, white]], ["r"], ["a very long label that says much too much", "b"])
    left = sheet.shape[-1] - (60 + GAP)
    assert sheet[:, :20, left - GAP : left].min() == 1  # nothing runs into the next column


def test_a_sheet_needs_a_label_for_every_picture():
    with pytest.raises(ValueError, match=r"cells must be 1 rows of 2 pictures, got \[1\]"):
        contact_sheet([[torch.zeros(3, 4, 4)]], ["a"], ["b", "c"])
    with pytest.raises(ValueError, match="cells must be 0 rows"):
        contact_sheet([], [], [])


def blue(plot: torch.Tensor) -> torch.Tensor:
    """Where a curve is drawn."""
    return (plot[2] > 0.6) & (plot[0] < 0.3)


def test_a_curve_rises_where_its_values_do():
    plot = metric_plot({"rising": [1.0, 2.0, 3.0, 4.0]})
    curve = blue(plot)
    columns = curve.any(0).nonzero().flatten()
    heights = [float(curve[:, x].nonzero().float().mean()) for x in columns[:: len(columns) // 8]]
    assert heights == sorted(heights, reverse=True)


def test_a_gap_in_a_curve_and_marked_frames_are_seen():
    whole, gap = metric_plot({"x": [1.0, 2.0, 1.0, 2.0]}), metric_plot({"x": [1.0, math.nan, 1.0, 2.0]})
    assert blue(gap).sum() < 0.7 * blue(whole).sum()
    marked = metric_plot({"x": [1.0, 2.0, 1.0, 2.0]}, marked=[2])
    assert not torch.equal(marked, whole) and torch.equal(blue(marked), blue(whole))


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 2.0], [math.nan, math.nan]])
def test_flat_single_and_unknown_curves_are_drawn(values):
    plot = metric_plot({"a": values, "b": [1.0] * len(values)}, width=300)
    assert plot.shape[-1] == 300 and bool(blue(plot).any())


def test_a_plot_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one curve"):
        metric_plot({"a": []})
