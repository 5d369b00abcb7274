"""The graph of the method in the real host: equal to the command line, to the one-box node, and to its own promises."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from host.graph import BUNDLE, ENCODE, alike, enhance, graph, made, node, run_graph, source
from media_clips import to_bytes, write_clip
from PIL import Image

from genve_core.cli import main


def moving(frames=5, h=24, w=40, channels=3, seed=0):
    """A smooth moving IMAGE of 8 bit, (frames, h, w, channels) in [0, 1]."""
    coarse = torch.rand(1, channels, 6, 9, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(coarse, size=(h, w + 2 * frames), mode="bicubic").clamp(0, 1)
    pictures = torch.stack([wide[0, :, :, 2 * i : 2 * i + w] for i in range(frames)])
    return (pictures * 255).round().movedim(1, -1) / 255


def core_frames(images):
    """An IMAGE of 8 bit as frames for genve_core, by another way than the nodes'."""
    return (images * 255).round().movedim(-1, 1) / 127.5 - 1


@pytest.fixture(scope="module")
def files(host):
    """In the server's input folder: clip.mkv (7 frames of 41x23 px with sound), a.png and b.png, its middle frame with
    detail that only they have."""
    video = core_frames(moving(7, 23, 41))
    key_frame = torch.nn.functional.interpolate(video[3:4], size=(60, 107), mode="bicubic")[0].clamp(-1, 1)
    write_clip(host.input / "clip.mkv", list(to_bytes(video)), pixel_format="bgr0", sound="flac")
    for seed, name in enumerate(("a.png", "b.png"), 1):
        detail = 0.15 * torch.randn(3, 60, 107, generator=torch.Generator().manual_seed(seed))
        Image.fromarray(to_bytes((key_frame + detail).clamp(-1, 1).unsqueeze(0))[0]).save(host.input / name)
    return host.input


def by_command_line(files, tmp_path, *options):
    """The frames of `genve enhance clip.mkv`, (f, h, w, 3) of 8 bit."""
    assert main(["enhance", str(files / "clip.mkv"), "-o", str(tmp_path / "frames"), "--scale", "2", *options]) == 0
    return np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "frames").glob("*.png"))])


def in_bytes(images):
    """8 bit as the command line's writer rounds: in double, where no value lies on the border of two."""
    return (images.double() * 255).round().byte().numpy()


@pytest.mark.parametrize("options, settings", [
    ([], {}),
    (["--noise-level", "600", "--seed", "3", "--steps", "2"], {"n": 600, "seed": 3, "steps": 2}),
    (["--reference", "a.png", "--key-frame", "2"], {"image": ["picture", 0], "key_frame": 2}),
])  # fmt: skip
def test_graph_and_box_equal_the_command_line(host, files, tmp_path, options, settings):
    options = [str(files / option) if option == "a.png" else option for option in options]
    wanted = by_command_line(files, tmp_path, *options)
    picture = {"picture": node("LoadImage", image="a.png")} if "image" in settings else {}
    result = host.run(graph({**source(), **picture}, **settings))
    assert result.status == "success", result.errors
    frames = host.saved("frames.pt")
    assert wanted.shape == (7, 46, 82, 3)
    assert alike(in_bytes(frames), wanted)

    box = dict(settings)
    result = host.run(enhance({**source(), **picture}, reference=box.pop("image", None), **box))
    assert result.status == "success", result.errors
    assert alike(host.saved("frames.pt"), frames)


def test_preclean_equals_the_command_line(host, files, tmp_path):
    wanted = by_command_line(files, tmp_path, "--preclean", "1", "--key-frame", "3")
    result = host.run(enhance(source(), preclean=1.0, key_frame=3))
    assert result.status == "success", result.errors
    assert alike(in_bytes(host.saved("frames.pt")), wanted)


def test_the_graph_with_preclean_equals_the_command_line(host, files, tmp_path):
    wanted = by_command_line(files, tmp_path, "--preclean", "0.5", "--key-frame", "3")
    steps = graph(source(), key_frame=3)
    for part in steps.values():
        if part["inputs"].get("bundle") == [BUNDLE, 0]:
            part["inputs"]["bundle"] = ["clean", 1]
    steps[ENCODE]["inputs"]["video"] = ["clean", 0]
    steps["clean"] = node("GenVEPreclean", video=["source", 0], bundle=[BUNDLE, 0], preclean=0.5)
    result = host.run(steps)
    assert result.status == "success", result.errors
    assert alike(in_bytes(host.saved("frames.pt")), wanted)


def test_preclean_keeps_the_clip_but_for_its_frames(run_node, mini):
    from comfy_api.latest import InputImpl, Types

    sound = {"waveform": torch.rand(1, 2, 4000), "sample_rate": 8000}
    clip = Types.VideoComponents(images=moving(4), audio=sound, frame_rate=Fraction(12))
    cleaned, bundle = run_node("GenVEPreclean", video=InputImpl.VideoFromComponents(clip), bundle=mini[0])
    found = cleaned.get_components()
    assert found.images.shape == clip.images.shape and not torch.equal(found.images, clip.images)
    assert found.frame_rate == 12 and found.audio is sound
    assert mini[0].preclean == 0 and bundle.preclean == 0.5

    cleaned, bundle = run_node("GenVEPreclean", video=clip.images, bundle=mini[0], preclean=0.0)
    torch.testing.assert_close(cleaned.get_components().images, clip.images, atol=1e-6, rtol=0)
    assert bundle is mini[0]
    assert cleaned.get_components().frame_rate == 25
    cleaned, _ = run_node("GenVEPreclean", video=moving(2, channels=4), bundle=mini[0])
    assert cleaned.get_components().images.shape == (2, 24, 40, 3), "transparency is left out"


def test_preclean_takes_windows_that_the_motion_modules_know(run_node, genve, tiny_bundle, tmp_path):
    load, backbone = genve("genve_core.bundle"), genve("genve_core.diffuser.backbone")
    shutil.copytree(tiny_bundle, tmp_path / "short")
    short = backbone.motion_adapter_of(backbone.from_image_unet(load.load_bundle(tiny_bundle)["unet"], max_frames=7))
    load.save_component(tmp_path / "short", "motion", short)
    bundle = genve("nodes.engine").HostModels(load.load_bundle(tmp_path / "short"))
    cleaned, _ = run_node("GenVEPreclean", video=moving(20), bundle=bundle)
    assert cleaned.get_components().images.shape == (20, 24, 40, 3)
    with pytest.raises(ValueError, match="window is 16 frames, this bundle's motion modules know 7; set it to 7 or less"):
        run_node("GenVEEnhanceVideo", video=moving(20), bundle=bundle, scale=1.0)


@pytest.mark.parametrize("options, settings", [([], {}), (["--reference", "a.png"], {"reference": ["picture", 0]})])
def test_more_than_4x_equals_the_command_line(host, files, tmp_path, options, settings):
    options = [str(files / option) if option == "a.png" else option for option in options]
    wanted = by_command_line(files, tmp_path, "--scale", "5", "--key-frame", "3", *options)
    picture = {"picture": node("LoadImage", image="a.png")} if settings else {}
    result = host.run(enhance({**source(), **picture}, scale=5.0, key_frame=3, **settings))
    assert result.status == "success", result.errors
    assert wanted.shape == (7, 115, 205, 3)
    assert alike(in_bytes(host.saved("frames.pt")), wanted)


def test_single_nodes_say_which_scale_is_better(host):
    better = ("The clip is enlarged {:g} times. Unless a picture is given, {:g} is better here, and the finished frames "
              "resized after that; Enhance Video (GenVE) does so by itself.")
    for scale, said in ((4.0, None), (5.0, [better.format(5, 4)]), (1.5, [better.format(1.5, 2)])):
        result = host.run(graph(made(2, 16, 16), scale=scale))
        assert result.status == "success", result.errors
        assert result.outputs.get(ENCODE, {}).get("text") == said


def test_dehalo_equals_the_command_line(host, files, tmp_path):
    wanted = by_command_line(files, tmp_path, "--dehalo", "1", "--key-frame", "3")
    (tmp_path / "without").mkdir()
    assert not np.array_equal(wanted, by_command_line(files, tmp_path / "without", "--key-frame", "3"))
    result = host.run(enhance(source(), dehalo=1.0, key_frame=3))
    assert result.status == "success", result.errors
    assert alike(in_bytes(host.saved("frames.pt")), wanted)
    steps = graph(source(), key_frame=3)
    steps[ENCODE]["inputs"]["dehalo"] = 1.0
    result = host.run(steps)
    assert result.status == "success", result.errors
    assert alike(in_bytes(host.saved("frames.pt")), wanted)


def test_strength_0_is_no_reference_to_the_bit(host, files, tmp_path):
    wanted = by_command_line(files, tmp_path, "--reference-strength", "0")
    found = []
    for name, strength in (("a.png", 0.0), ("b.png", 0.0), ("a.png", 1.0), ("b.png", 1.0)):
        clip = {**source(), "picture": node("LoadImage", image=name)}
        result = host.run(graph(clip, image=["picture", 0], strength=strength))
        assert result.status == "success", result.errors
        found.append(host.saved("frames.pt"))
    assert torch.equal(found[0], found[1]) and alike(in_bytes(found[0]), wanted)
    a, b = found[2:]
    # far more than a grey level, everywhere but for what no reference reaches
    assert (a - b).abs().mean() > 0.02 and (a - found[0]).abs().mean() > 0.02


def test_strength_0_equals_the_steps_without_any_reference(run_node, mini, genve):
    """Not through the pipeline, which leaves the reference out, but by the single steps of genve_core."""
    steps, decode, clips = (genve(f"genve_core.{name}") for name in ("steps", "decode", "clip"))
    models, video = mini[0], moving(6)
    clip = clips.Clip(core_frames(video), (48, 80))
    with torch.inference_mode():
        Z = steps.encode_clip(models, clip)
        Z_n, _ = steps.augment(models, Z, (), 250)
        guidance = steps.match(models, Z_n, None, 250)
        Z_0 = steps.diffuse(models, Z, guidance, models.defaults.video_times())
        flow = steps.find_flow(models, clip, [])
        frames = torch.stack(list(decode.decode_clip(models, clip, Z_0, flow, n=250)))
    assert torch.equal(run_graph(run_node, models, video, strength=0.0).frames, (frames.movedim(1, -1) + 1) / 2)


@pytest.mark.parametrize("count, h, w", [(1, 24, 40), (9, 17, 31), (6, 8, 8), (20, 16, 24)])
def test_any_count_and_size_and_windows(run_node, mini, count, h, w):
    """One frame, 4n+1 and others, odd sizes, more frames than one window holds."""
    video = moving(count, h, w)
    result = run_graph(run_node, mini[0], video, scale=2.0)
    size = (count, 2 * h, 2 * w, 3)
    assert result.frames.shape == result.images.shape == size and result.validity.shape == size[:3]
    assert result.picture.shape[0] == count and 0 <= result.key < count
    frames, clip = run_node("GenVEEnhanceVideo", video=video, scale=2.0, bundle=mini[0])
    assert alike(result.frames, frames) and torch.equal(clip.get_components().images, frames)


def test_inputs_are_left_as_they_were(run_node, mini):
    video = moving()
    before = video.clone()
    first = run_graph(run_node, mini[0], video)
    kept = [first.z["samples"].clone(), first.images.clone(), first.z_n["samples"].clone()]
    run_node("GenVEVideoDiffuserSampler", z=first.z, guidance=first.guidance, steps=2)
    run_node("GenVENoiseAugmentation", z=first.z, reference=first.reference, n=900)
    assert torch.equal(video, before)
    for now, then in zip((first.z["samples"], first.images, first.z_n["samples"]), kept, strict=True):
        assert torch.equal(now, then)


def test_several_references_equal_the_pipeline(run_node, mini, genve):
    models, video = mini[0], moving(9)
    a, b = moving(1, 48, 80, seed=1), moving(1, 48, 80, seed=2)
    z, images, *_ = run_node("GenVEUpscaleEncode", video=video, bundle=models, scale=2.0)
    shared = {"images": images, "bundle": models}
    last, _ = run_node("GenVEReferenceFromImage", image=b, key_frame=7, **shared)
    both, _ = run_node("GenVEReferenceFromImage", image=a, key_frame=1, previous=last, **shared)
    assert [one.key for one in both.references] == [1, 7]
    flow, _ = run_node("GenVEOpticalFlow", reference=both, **shared)
    z_n, y_n = run_node("GenVENoiseAugmentation", z=z, reference=both)
    carried, _ = run_node("GenVETemporalAugmentation", y_n=y_n, flow=flow)
    (guidance,) = run_node("GenVELCAController", z_n=z_n, carried_y_n=carried, bundle=models)
    _, frames = run_node("GenVEVideoDiffuserSampler", z=z, guidance=guidance)

    pipeline = genve("genve_core.pipeline")
    enhancer = pipeline.Enhancer(models, pipeline.EnhanceConfig(scale=2.0))
    wanted = torch.cat(list(enhancer.run(core_frames(video), {7: core_frames(b)[0], 1: core_frames(a)[0]})))
    assert alike(frames, (wanted.movedim(1, -1) + 1) / 2)


def test_a_transparent_reference_is_not_used_where_it_is_transparent(run_node, mini):
    images = moving(3, 48, 80)
    opaque = torch.cat([images[1:2], torch.ones(1, 48, 80, 1)], dim=-1)
    half = opaque.clone()
    half[:, :, 40:, 3] = 0
    shared = {"images": images, "bundle": mini[0], "key_frame": 1}
    whole, _ = run_node("GenVEReferenceFromImage", image=opaque, **shared)
    part, _ = run_node("GenVEReferenceFromImage", image=half, **shared)
    assert bool((whole.references[0].valid == 1).all())
    assert part.references[0].valid[0, :48, :40].mean() == 1 and part.references[0].valid[0, :48, 41:80].mean() == 0


def test_rgba_frames_keep_their_alpha_in_the_one_box(run_node, mini):
    video = moving(3, channels=4)
    video[..., 3] = 1
    video[:, :, 20:, 3] = 0
    frames, clip = run_node("GenVEEnhanceVideo", video=video, scale=2.0, bundle=mini[0])
    assert frames.shape == (3, 48, 80, 4) and clip.get_components().images.shape == (3, 48, 80, 3)
    assert frames[:, :, :36, 3].min() > 0.99 and frames[:, :, 44:, 3].max() < 0.01
    rgb, _ = run_node("GenVEEnhanceVideo", video=video[..., :3], scale=2.0, bundle=mini[0])
    assert torch.equal(frames[..., :3], rgb)
    assert alike(run_graph(run_node, mini[0], video).frames, rgb), "the graph leaves transparency out"


def test_width_and_height(run_node, mini):
    video = moving(2)
    for given, size in (({"width": 60}, (36, 60)), ({"height": 33}, (33, 55)), ({"width": 50, "height": 50}, (50, 50))):
        assert run_node("GenVEUpscaleEncode", video=video, bundle=mini[0], **given)[1].shape[1:3] == size
        assert run_node("GenVEEnhanceVideo", video=video, bundle=mini[0], **given)[0].shape[1:3] == size


def test_up_scaled_frames_lead_to_the_same_latents(run_node, mini):
    """Encoding the up-scaled frames again at scale 1 gives Z to the bit: nothing is lost on the wire."""
    z, images, *_ = run_node("GenVEUpscaleEncode", video=moving(5, 23, 41), bundle=mini[0], scale=2.0)
    again, same, *_ = run_node("GenVEUpscaleEncode", video=images, bundle=mini[0], scale=1.0)
    assert torch.equal(z["samples"], again["samples"]) and torch.equal(images, same)


def test_rate_and_sound_of_a_video_are_kept(host, files):
    result = host.run({**enhance(source(), save=1), "file": node("SaveVideo", video=["enhance", 1], filename_prefix="out",
                                                                format="auto", codec="auto")})  # fmt: skip
    assert result.status == "success", result.errors
    (saved,) = result.outputs["file"]["images"]
    with av.open(str(host.output / saved["filename"])) as video:
        assert video.streams.video[0].average_rate == 25 and video.streams.video[0].frames == 7
        assert video.streams.audio[0].rate == 48000


def test_the_graph_can_be_saved_with_rate_and_sound(host, files):
    prompt = {**graph(source()), "video": node("CreateVideo", images=["sampler", 1], fps=["encode", 3], audio=["encode", 4]),
              "file": node("SaveVideo", video=["video", 0], filename_prefix="graph", format="auto", codec="auto")}
    result = host.run(prompt)
    assert result.status == "success", result.errors
    with av.open(str(host.output / result.outputs["file"]["images"][0]["filename"])) as video:
        assert video.streams.video[0].average_rate == 25 and len(video.streams.audio) == 1


def test_an_image_has_25_frames_per_second_and_no_sound(run_node, mini):
    _, _, _, rate, audio = run_node("GenVEUpscaleEncode", video=moving(2), bundle=mini[0])
    assert rate == 25 and audio is None


def test_z_outlives_save_and_load_latent(host):
    """At 4x: by how much its clip was enlarged the file does not keep."""
    prompt = {**graph(made(), scale=4.0), "keep": node("SaveLatent", samples=["encode", 0], filename_prefix="z")}
    result = host.run(prompt)
    assert result.status == "success", result.errors
    frames = host.saved("frames.pt")
    saved = host.output / result.outputs["keep"]["latents"][0]["filename"]
    saved.rename(host.input / "z.latent")
    loaded = {**graph(made(), scale=4.0), "loaded": node("LoadLatent", latent="z.latent")}
    for name in ("reference", "noise", "sampler"):
        loaded[name]["inputs"]["z"] = ["loaded", 0]
    result = host.run(loaded)
    assert result.status == "success", result.errors
    assert torch.equal(host.saved("frames.pt"), frames)


def test_the_bundle_of_the_one_box_is_genve_mini(host):
    assert host.run({**enhance(made())}).status == "success"
    frames = host.saved("frames.pt")
    bundle = {"bundle": node("GenVELoadBundle", bundle="genve-mini")}
    assert host.run({**enhance({**made(), **bundle}, bundle=["bundle", 0])}).status == "success"
    assert torch.equal(host.saved("frames.pt"), frames)


@pytest.fixture(scope="module")
def two_shots(files):
    """9 frames of one scene and 8 of another, cut.mkv with sound."""
    video = torch.cat([core_frames(moving(9, 24, 40, seed=4)), -core_frames(moving(8, 24, 40, seed=5))])
    write_clip(files / "cut.mkv", list(to_bytes(video)), pixel_format="bgr0", sound="flac")
    return files / "cut.mkv"


@pytest.mark.parametrize("reference", [False, True])
def test_a_video_of_several_shots_equals_the_command_line(host, files, two_shots, tmp_path, reference):
    options = ["--reference", str(files / "a.png"), "--key-frame", "12"] if reference else []
    assert main(["enhance", str(two_shots), "-o", str(tmp_path / "frames"), "--scale", "2", *options]) == 0
    wanted = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "frames").glob("*.png"))])
    clip = {**source("cut.mkv"), **({"picture": node("LoadImage", image="a.png")} if reference else {})}
    settings = {"reference": ["picture", 0], "key_frame": 12} if reference else {}
    result = host.run(enhance(clip, **settings))
    assert result.status == "success", result.errors
    assert np.array_equal(in_bytes(host.saved("frames.pt")), wanted)


def test_without_all_frames_the_video_is_the_file_that_the_command_line_writes(host, two_shots, tmp_path):
    """Saved by the host's own node, without encoding it again."""
    assert main(["enhance", str(two_shots), "-o", str(tmp_path / "wanted.mp4"), "--scale", "2"]) == 0
    prompt = {**enhance(source("cut.mkv"), all_frames=False),
              "file": node("SaveVideo", video=["enhance", 1], filename_prefix="cut", format="auto", codec="auto")}
    result = host.run(prompt)
    assert result.status == "success", result.errors
    assert host.saved("frames.pt").shape == (1, 48, 80, 3)
    found, wanted = (pictures_and_sound(file) for file in (next(host.output.glob("cut*.mp4")), tmp_path / "wanted.mp4"))
    assert len(found[0]) == 17 and found[1] > 0
    # the host's own thread counts and sizes round a value otherwise here and there, which H.264 spreads over a block
    apart = np.abs(found[0].astype(int) - wanted[0])
    assert apart.max() <= 8 and (apart > 0).mean() < 0.01 and found[1:] == wanted[1:]


def pictures_and_sound(file):
    """Decoded frames, number of audio samples, frame times."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(file)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return np.stack([frame.to_ndarray() for frame in frames]), samples, [frame.time for frame in frames]
