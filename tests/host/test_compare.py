"""Compare in the real host: the pictures it leaves for the view, and what it refuses."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def compare(run_node, node_classes):
    """`compare(before, after, ...)` -> (its IMAGE output, what it tells the view)."""

    def run(before, after, **inputs):
        node = node_classes["GenVECompare"]
        widgets = {i.id: i.default for i in node.GET_SCHEMA().inputs if getattr(i, "default", None) is not None}
        with torch.inference_mode():
            out = node.PREPARE_CLASS_CLONE(None).execute(**{**widgets, "before": before, "after": after, **inputs})
        return out.result[0], out.ui

    return run


def clip(frames: int, h: int, w: int, channels: int = 3) -> torch.Tensor:
    """An IMAGE of soft 8-bit colours: JPEG hardly changes them."""
    coarse = torch.rand(frames, channels, 2, 3)
    smooth = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=True)
    return (smooth * 255).round().movedim(1, -1) / 255


def picture(entry: dict) -> np.ndarray:
    import folder_paths

    assert entry["type"] == "temp"
    path = Path(folder_paths.get_temp_directory()) / entry["subfolder"] / entry["filename"]
    return np.array(Image.open(path)).astype(float) / 255


def test_every_frame_of_both_is_saved_at_the_size_of_after(compare):
    before, after = clip(3, 24, 40), clip(3, 47, 81)
    image, ui = compare(before, after)
    assert image is after
    assert [len(ui[key]) for key in ("a_images", "b_images")] == [3, 3] and "reference_images" not in ui
    for i in range(3):
        assert np.abs(picture(ui["b_images"][i]) - after[i].numpy()).mean() < 0.01
        up = torch.nn.functional.interpolate(before[i : i + 1].movedim(-1, 1), size=(47, 81), mode="bicubic")
        wanted = up[0].movedim(0, -1).clamp(0, 1).numpy()
        assert np.abs(picture(ui["a_images"][i]) - wanted).mean() < 0.01
    assert ui["genve_compare"] == [{"frames": [0, 1, 2], "of": 3, "key_frame": -1, "frames_per_second": 24.0,
                                    "before": [40, 24], "after": [81, 47]}]


def test_every_value_for_the_view_is_a_list_as_the_host_wants(compare):
    ui = compare(clip(1, 16, 16), clip(1, 16, 16), reference=clip(1, 9, 9), key_frame=0)[1]
    assert set(ui) == {"a_images", "b_images", "reference_images", "genve_compare"}
    assert all(isinstance(value, list) for value in ui.values())


def test_nearest_shows_the_pixels_of_before(compare):
    before = torch.zeros(1, 16, 16, 3)
    before[:, :, 8:] = 1
    files = {resize: compare(before, torch.zeros(1, 64, 64, 3), resize=resize)[1]["a_images"][0]
             for resize in ("nearest", "bicubic")}
    grey = {resize: ((picture(entry) > 0.1) & (picture(entry) < 0.9)).sum() for resize, entry in files.items()}
    assert grey["nearest"] == 0 and grey["bicubic"] > 0


def test_of_a_long_clip_evenly_spaced_frames_are_kept(compare):
    ui = compare(clip(11, 16, 16), clip(11, 16, 16), most_frames=4)[1]
    assert ui["genve_compare"][0]["frames"] == [0, 3, 6, 9] and ui["genve_compare"][0]["of"] == 11
    assert [entry["filename"][-9:-4] for entry in ui["b_images"]] == ["00000", "00003", "00006", "00009"]


def test_the_reference_keeps_its_own_size_and_alpha_is_dropped(compare):
    reference = clip(1, 30, 50, 4)
    ui = compare(clip(2, 16, 16, 4), clip(2, 16, 16), reference=reference, key_frame=1)[1]
    assert np.abs(picture(ui["reference_images"][0]) - reference[0, ..., :3].numpy()).mean() < 0.01
    assert picture(ui["a_images"][0]).shape == (16, 16, 3)
    assert ui["genve_compare"][0]["key_frame"] == 1


def test_each_run_has_files_of_its_own(compare):
    pair = clip(1, 16, 16), clip(1, 16, 16)
    first, second = (compare(*pair)[1]["a_images"][0]["filename"] for _ in range(2))
    assert first != second


def test_interrupt_stops_between_two_frames(compare, pack):
    import comfy.model_management as management

    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        compare(clip(2, 16, 16), clip(2, 16, 16))


BAD = [
    (dict(before=clip(2, 16, 16), after=clip(3, 16, 16)), "before has 2 frames and after 3, wanted as many"),
    (dict(before=clip(1, 16, 24), after=clip(1, 48, 32)), "before is 24x16 px and after 32x48 px, wanted the same aspect"),
    (dict(before=torch.zeros(0, 16, 16, 3)), "before holds 0 frames of 16x16 px, wanted at least one"),
    (dict(after=torch.zeros(1, 16, 0, 3)), "after holds 1 frames of 0x16 px, wanted at least one"),
    (dict(after=torch.zeros(1, 16, 16, 1)), "after has 1 channels, wanted 3"),
    (dict(before={"samples": torch.zeros(1, 4, 2, 2)}), "before is .*, wanted an IMAGE"),
    (dict(reference=clip(3, 16, 16)), "reference holds 3 pictures, wanted one; pick it with Image From Batch"),
    (dict(reference=torch.zeros(0, 16, 16, 3)), "reference holds 0 frames"),
    (dict(key_frame=1), r"key frame must be in \[0, 0\] for a clip of 1 frames, got 1"),
    (dict(resize="lanczos"), "resize must be one of bicubic, nearest, got 'lanczos'"),
    (dict(most_frames=0), "most_frames must be at least 1, got 0"),
    (dict(frames_per_second=0.0), "frames_per_second must be above 0, got 0"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[message[:30] for _, message in BAD])
def test_a_mistake_is_named_in_one_line(compare, change, message):
    with pytest.raises(ValueError, match=message) as raised:
        compare(**{"before": clip(1, 16, 16), "after": clip(1, 16, 16), **change})
    assert "\n" not in str(raised.value)


def test_a_mistake_is_shown_on_the_node_over_http(host):
    image = {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 2, "color": 255}}
    one = {**image, "inputs": {**image["inputs"], "batch_size": 1}}
    compare = {"before": ["1", 0], "after": ["2", 0], "key_frame": -1, "frames_per_second": 24.0, "resize": "bicubic",
               "most_frames": 240}
    result = host.run({"1": image, "2": one, "3": {"class_type": "GenVECompare", "inputs": compare}})
    assert result.status == "error" and re.match("before has 2 frames and after 1", result.errors["3"])
    result = host.run({"1": image, "3": {"class_type": "GenVECompare", "inputs": {**compare, "after": ["1", 0]}}})
    assert result.status == "success" and len(result.outputs["3"]["b_images"]) == 2
    assert host.get("/extensions") and any(path.endswith("/js/genve_compare.js") for path in host.get("/extensions"))
