import pytest

from genve_core.bundle import Defaults
from genve_core.dial import creativity_of, detail_level, noise_level_for
from genve_core.errors import InputError

DIAL = [{"n": 0, "creativity": 0.0}, {"n": 100, "creativity": 0.5}, {"n": 400, "creativity": 1.0}]


@pytest.mark.parametrize("n, creativity", [(0, 0), (50, 0.25), (100, 0.5), (250, 0.75), (400, 1)])
def test_the_curve_is_read_both_ways(n, creativity):
    assert creativity_of(DIAL, n) == pytest.approx(creativity)
    assert noise_level_for(DIAL, creativity) == n


def test_beyond_the_last_row_nothing_more_is_promised():
    assert creativity_of(DIAL, 999) == 1


def test_a_bundle_without_a_curve_has_no_creativity():
    assert creativity_of([], 250) is None
    with pytest.raises(InputError, match=r"no measured curve .* give the noise level itself"):
        noise_level_for([], 0.5)


def test_a_curve_that_falls_is_not_read_backwards():
    with pytest.raises(InputError, match="no measured curve of its noise level that rises"):
        noise_level_for([*DIAL, {"n": 500, "creativity": 0.9}], 0.95)


@pytest.mark.parametrize("creativity", [-0.1, 1.1])
def test_creativity_out_of_range_is_refused(creativity):
    with pytest.raises(InputError, match=r"creativity must be in \[0, 1\], got "):
        noise_level_for(DIAL, creativity)


@pytest.mark.parametrize("n, enlargement, level", [
    (0, 2, 0), (100, 2, 300), (250, 1, 750), (250, 2, 750), (999, 2, 1499),  # most from 2 down; above the default as ever
    (250, 3, 500), (250, 4, 250), (250, 8, 250),
])
def test_a_clip_that_is_enlarged_by_less_gets_more_detail(n, enlargement, level):
    assert detail_level(n, Defaults(noise_level=250, detail_at_2x=3), enlargement) == level
    assert detail_level(n, Defaults(), enlargement) == n  # a bundle that says nothing of it


@pytest.mark.parametrize("n, enlargement, level", [(250, 4, 250), (350, 4, 450), (350, 2, 950), (999, 8, 1748)])
def test_above_the_default_n_counts_for_more(n, enlargement, level):
    assert detail_level(n, Defaults(noise_level=250, detail_at_2x=3, detail_above=2), enlargement) == level
