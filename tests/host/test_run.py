"""Progress, Interrupt, smaller steps when memory runs out, and errors as one line."""

import logging

import pytest
import torch


@pytest.fixture(scope="module")
def run(genve):
    return genve("nodes.run")


@pytest.fixture
def shown(pack):
    """What reaches the host's progress bar: (value, maximum, preview)."""
    import comfy.utils

    seen = []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, preview, node_id=None: seen.append((value, total, preview)))
    yield seen
    comfy.utils.set_progress_bar_global_hook(None)


def test_stages_share_one_bar(run, shown):
    progress = run.Progress({"encode": 1, "diffuse": 3})
    for stage, done in (("encode", 2), ("encode", 4), ("diffuse", 2), ("unknown", 1), ("diffuse", 4)):
        progress(stage, done, 4)
    assert [value for value, _, _ in shown] == [125, 250, 625, 625, 1000]
    assert {total for _, total, _ in shown} == {1000}


def test_the_bar_of_enhance_video_moves_in_the_first_pass_too(genve, run_node, tiny_bundle, shown):
    models = genve("nodes.engine").HostModels(genve("genve_core.bundle").load_bundle(tiny_bundle))
    video = torch.rand(4, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    run_node("GenVEEnhanceVideo", video=video, scale=1.0, preclean=1.0, bundle=models)
    values = [value for value, _, _ in shown]
    assert values == sorted(values) and values[-1] == 1000
    assert {round(1000 * (0.01 + frames / 4) / 2.01) for frames in (1, 2, 3, 4)} <= {*values}  # it has as many pixels


def test_previews_are_small_true_and_not_too_many(run, shown, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    asked = []

    def preview(stage, done):
        asked.append((stage, done))
        return torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 600, 1200)

    progress = run.Progress({"decode": 1}, preview)
    for done in range(4):
        clock[0] += 0.2
        progress("decode", done, 4)
    assert asked == [("decode", 0), ("decode", 3)]
    kind, picture, side = shown[0][2]
    assert (kind, side, picture.size, picture.getpixel((5, 5))) == ("JPEG", 512, (400, 200), (0, 128, 255))
    clock[0] += 1
    progress.with_frame(torch.zeros(3, 20, 30))
    assert shown[-1][0] == 750 and shown[-1][2][1].size == (30, 20)


def test_interrupt_stops_at_the_next_report(run, pack):
    import comfy.model_management as management

    progress = run.Progress({"encode": 1})
    progress("encode", 1, 4)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        progress("encode", 2, 4)


def out_of_memory():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def cpu_out_of_memory():
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("fail", [out_of_memory, cpu_out_of_memory])
def test_when_memory_runs_out_parts_are_halved_in_turn(run, fail, caplog):
    tried = []

    def work(sizes):
        tried.append((sizes.window.length, sizes.tiling.tile, sizes.chunk))
        if len(tried) < 5:
            fail()
        return "done"

    with caplog.at_level(logging.WARNING):
        result, notes = run.retrying_smaller(work)
    assert result == "done"
    assert tried == [(16, 768, 2), (8, 768, 2), (8, 384, 2), (8, 384, 1), (4, 384, 1)]
    assert len(notes) == 4
    assert notes[-1] == "Memory ran out; tried again with windows of 4 frames, tiles of 384 px, 1 frames at once."
    assert caplog.text.count("Memory ran out") == 4


def test_only_the_parts_that_matter_are_halved_and_in_the_end_the_error_comes(run):
    tried = []

    def work(sizes):
        tried.append((sizes.window.length, sizes.window.overlap, sizes.tiling.tile))
        out_of_memory()

    with pytest.raises(torch.cuda.OutOfMemoryError):
        run.retrying_smaller(work, parts=("window",))
    assert tried == [(16, 4, 768), (8, 2, 768), (4, 1, 768)]


def test_a_failed_attempts_memory_is_free_before_the_next(run):
    import gc
    import weakref

    held = []

    def work(sizes):
        gc.disable()  # freed by leaving the exception, not by chance
        if held:
            return held[0]() is None
        big = torch.zeros(10)
        held.append(weakref.ref(big))
        out_of_memory()

    try:
        assert run.retrying_smaller(work)[0] is True
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("shapes do not fit"), KeyboardInterrupt()])
def test_other_errors_and_interrupts_pass_at_once(run, error):
    calls = []

    def work(sizes):
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        run.retrying_smaller(work)
    assert calls == [1]


def test_the_hosts_interrupt_passes_at_once(run, pack):
    import comfy.model_management as management

    def work(sizes):
        raise management.InterruptProcessingException

    with pytest.raises(management.InterruptProcessingException):
        run.retrying_smaller(work)


def test_newer_hosts_say_themselves_what_out_of_memory_is(genve, monkeypatch):
    import comfy.model_management as management

    def raise_non_oom(error):
        if "accelerator is full" not in str(error):
            raise error

    monkeypatch.setattr(management, "raise_non_oom", raise_non_oom, raising=False)
    is_oom = genve("nodes.compat").is_oom
    assert is_oom(RuntimeError("accelerator is full")) and not is_oom(RuntimeError("else"))


def test_a_users_mistake_is_one_line_under_a_plain_name(run, genve):
    wrong = genve("genve_core.errors").InputError

    @run.explained
    def execute(n):
        """Text."""
        raise wrong(f"n is {n}, wanted less")

    with pytest.raises(ValueError, match=r"^n is 3, wanted less$") as caught:
        execute(3)
    assert type(caught.value) is ValueError and caught.value.__suppress_context__
    assert execute.__doc__ == "Text."


def test_notes_for_the_node(run):
    assert run.text_ui() is None
    assert run.text_ui("a.", "b.") == {"text": ["a.", "b."]}


def test_notes_are_shown_on_the_running_node_and_kept(host):
    result = host.run({"7": {"class_type": "ProbeNotes", "inputs": {"note": "Memory ran out."}}})
    assert result.status == "success", result.errors
    assert result.texts == ["Memory ran out."] and result.outputs["7"] == {"text": ["Memory ran out."]}
