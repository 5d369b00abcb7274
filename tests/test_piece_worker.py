"""What a worker does, without a cluster: in this process."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from media_clips import smooth_video, to_bytes, write_clip
from PIL import Image

from genve_core.bundle import load_bundle
from genve_core.film import FilmRun, assign, pieces, scan
from genve_core.lock import only_run_on
from genve_core.media import VideoReader
from genve_core.media.shots import Shot
from genve_core.models import Models
from genve_core.piece_worker import CHUNK, PREFIX, Order, PieceWorker, Sent
from genve_core.pipeline import EnhanceConfig, Enhancer

H, W, FRAMES = 24, 32, 40


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def film(tmp_path, tiny_bundle):
    """(order, frames of each piece as made here). The input and a picture lie in folders of their own."""
    (tmp_path / "in").mkdir()
    video = write_clip(tmp_path / "in" / "film.mkv", list(to_bytes(smooth_video(FRAMES, H, W))), pixel_format="bgr0")
    picture = tmp_path / "in" / "good.png"
    Image.fromarray(to_bytes(smooth_video(1, 2 * H, 2 * W, seed=5))[0]).save(picture)
    shutil.copytree(tiny_bundle, tmp_path / "in" / "bundle")
    enhancer = Enhancer(Models(load_bundle(tiny_bundle), "cpu"), EnhanceConfig(size=(2 * H, 2 * W), segment=6, align=False))
    with VideoReader(video) as reader:
        found, pictures, _ = assign(scan(reader, cuts=None), [(3, picture)], (2 * H, 2 * W))
        work = pieces(enhancer, found)
        run = FilmRun(enhancer, reader, found, pictures)
        here = [torch.stack([rgb for rgb, _ in run.piece(piece)]) for piece in work]
    return Order(video, tmp_path / "in" / "bundle", enhancer.config, "cpu", found.shots, work, pictures), here


def made(worker, piece, folder):
    """(name, frames in steps of 8 bits) of a piece."""
    parts = worker.make(piece)
    name, notes = next(parts)
    assert not notes
    (folder / name).write_bytes(b"".join(parts))
    with VideoReader(folder / name) as video:
        return name, torch.stack([frame.rgb for frame in video])


def test_what_a_machine_has_is_not_sent_and_its_pieces_equal_those_made_here_in_any_order(film, temporary, tmp_path):
    order, here = film
    worker = PieceWorker(threads=1)
    files = order.files()
    assert [sent.path for sent in files] == [order.input, order.bundle, tmp_path / "in" / "good.png"]
    assert not any(worker.lacks(sent) for sent in files)
    worker.begin(order, files)
    assert len(here) == 3
    for piece in (2, 0, 1):
        frames = made(worker, piece, tmp_path)[1]
        assert frames.shape == here[piece].shape
        assert (frames - here[piece]).abs().max() <= 1 / 255 + 1e-6  # what storing rounds
    worker.end()
    worker.close()
    assert not list(temporary.iterdir())


def test_what_a_machine_lacks_is_sent_and_gives_the_same_files(film, temporary, tmp_path):
    order, _ = film
    near, files = PieceWorker(threads=1), order.files()
    assert not any(near.lacks(sent) for sent in files)
    near.begin(order, files)
    expected = made(near, 1, tmp_path)
    chunks = {sent.path: list(sent.chunks()) for sent in files}
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    far = PieceWorker(threads=1)
    for sent in files:
        assert far.lacks(sent)
        for name, data in chunks[sent.path]:
            far.take(sent, name, data)
    far.begin(order, files)
    name, frames = made(far, 1, tmp_path)
    assert name == expected[0] and torch.equal(frames, expected[1])


def test_another_file_of_that_name_is_not_taken_for_the_input(film, temporary):
    order, _ = film
    files = order.files()
    order.input.write_bytes(order.input.read_bytes()[:-1] + b"x")
    assert PieceWorker(threads=1).lacks(files[0])


def test_bytes_that_were_changed_on_the_way_are_refused(film, temporary):
    order, _ = film
    worker, files = PieceWorker(threads=1), order.files()
    order.input.unlink()
    assert [worker.lacks(sent) for sent in files] == [True, False, False]
    worker.take(files[0], "", b"other bytes")
    with pytest.raises(OSError, match=r"film\.mkv was damaged on its way to .*; run the same command again"):
        worker.begin(order, files)


def test_a_large_file_comes_in_chunks_and_an_empty_one_too(tmp_path):
    (tmp_path / "large").write_bytes(bytes(CHUNK + 1))
    (tmp_path / "empty").touch()
    assert [(name, len(data)) for name, data in Sent.of(tmp_path).chunks()] == [("empty", 0), ("large", CHUNK), ("large", 1)]


def test_what_killed_workers_left_is_removed_and_that_of_living_ones_is_not(temporary):
    dead, alive = temporary / f"{PREFIX}1-dead", temporary / f"{PREFIX}2-alive"
    dead.mkdir()
    alive.mkdir()
    (dead / "film.mkv").touch()
    with only_run_on(alive):
        worker = PieceWorker(threads=1)
        assert not dead.exists() and alive.exists()
        worker.close()
    assert [path.name for path in temporary.iterdir()] == [alive.name]


def test_shots_and_paths_can_be_sent(film):
    import pickle

    order, _ = film
    again = pickle.loads(pickle.dumps(order))
    assert again == order and isinstance(again.shots[0], Shot) and isinstance(again.input, Path)
