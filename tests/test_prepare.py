"""`idinpaint prepare`: what is read, what is dropped and why, resuming after a kill, and reading the shards back."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from idinpaint.cli import main
from idinpaint.data.photos import load_photos, load_training_masks, training_photos
from idinpaint.data.prepare_faces import Drop, Face, FaceReader, reflected_crop
from idinpaint.data.prepare_sources import PhotoSource, Source
from idinpaint.data.prepared import PreparedFaces
from idinpaint.faces.alignment import warp_to_crop
from idinpaint.imaging.folder_lock import locked
from idinpaint.loading.bundle import load_faces
from idinpaint.models.weights import WeightStore
from idinpaint.types import InputError

SRC = Path(__file__).parents[1] / "src"
OPTIONS = ["--workers", "1", "--shard-size", "2"]


@pytest.fixture(scope="module")
def reader():
    store = WeightStore()
    return FaceReader(Path("/"), store, *load_faces(store))


@pytest.fixture(scope="module")
def aligned(reader) -> np.ndarray:
    """The astronaut's face as an FFHQ-style crop, [256, 256, 3] uint8."""
    photo = skimage.data.astronaut()
    return warp_to_crop(photo, None, reader.analyzer.search.locate(photo)[0].crop_to_photo)[0]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, aligned) -> Path:
    """Four good photos of three people, one of them not aligned, and four bad files."""
    root = tmp_path_factory.mktemp("photos")
    for person, name, pixels in (
        ("ann", "1.png", aligned),
        ("ann", "2.png", np.ascontiguousarray(aligned[:, ::-1])),
        ("bob", "1.png", (aligned * 0.7).astype(np.uint8)),
        ("eve", "whole.png", skimage.data.astronaut()),
        ("eve", "tiny.png", aligned[::8, ::8]),
        ("bob", "sky.png", np.full((300, 200, 3), 130, np.uint8)),
    ):
        (root / person).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / person / name)
    whole = (root / "ann" / "1.png").read_bytes()
    (root / "ann" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "bob" / "text.jpg").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    assert main(["prepare", str(photos), str(out), *OPTIONS]) == 0
    return out


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def rows_of(out: Path) -> dict[str, dict]:
    """name -> row, over all shards, as Arrow holds them."""
    import pyarrow.parquet as pq

    return {row["name"]: row for path in sorted(out.glob("data/*")) for row in pq.read_table(path).to_pylist()}


def test_layout_of_celebamask_hq(tmp_path):
    """Masks lie in folders of 2,000; people come through CelebA's two lists."""
    touch(tmp_path, *(f"CelebA-HQ-img/{n}.jpg" for n in (10, 9, 2001)), "extra-img/5.jpg")
    touch(tmp_path, "CelebAMask-HQ-mask-anno/1/02001_skin.png", "CelebAMask-HQ-mask-anno/0/00009_hair.png")
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx orig_idx orig_file\n9 7 000008.jpg\n10 8 000009.jpg\n"
    )
    (tmp_path / "identity_CelebA.txt").write_text("000008.jpg 42\n000009.jpg 42\n")
    found = list(PhotoSource(tmp_path))
    assert [s.path for s in found] == [f"CelebA-HQ-img/{n}.jpg" for n in (9, 10, 2001)] + ["extra-img/5.jpg"]
    assert [s.name for s in found] == ["9.jpg", "10.jpg", "2001.jpg", "extra-img/5.jpg"]
    assert [s.identity for s in found] == ["42", "42", "", ""]
    assert [s.skin for s in found] == ["", "", "CelebAMask-HQ-mask-anno/1/02001_skin.png", ""]


def test_layout_of_celeba(tmp_path):
    touch(tmp_path, "img_align_celeba/000002.jpg", "img_align_celeba/000001.jpg", "img_align_celeba/notes.txt")
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 17\n000003.jpg 17\n")
    found = list(PhotoSource(tmp_path))
    assert [(s.name, s.identity) for s in found] == [("000001.jpg", "2880"), ("000002.jpg", "17")]
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg\n")
    with pytest.raises(InputError, match="identity_CelebA.txt: line 2 has 1 words"):
        PhotoSource(tmp_path)


def test_splits_keep_people_together_and_respect_lists(tmp_path):
    touch(tmp_path / "faces", *(f"p{n}/{k}.jpg" for n in range(300) for k in range(2)))
    by_hash = list(PhotoSource(tmp_path / "faces"))
    split_of = {s.identity: s.split for s in by_hash}
    assert all(split_of[s.identity] == s.split for s in by_hash)
    counts = {split: list(split_of.values()).count(split) for split in ("test", "validation", "train")}
    assert 5 <= counts["test"] <= 30 and 5 <= counts["validation"] <= 30 and sum(counts.values()) == 300
    (tmp_path / "faces_test.txt").write_text("# people\np3\np77\n")
    (tmp_path / "others_val.txt").write_text("p4\n")
    listed = {s.identity: s.split for s in PhotoSource(tmp_path / "faces", tmp_path)}
    assert {p for p, split in listed.items() if split == "test"} == {"p3", "p77"}
    assert {p for p, s in listed.items() if s == "validation"} == {p for p, s in split_of.items() if s == "validation"}


def test_a_listed_photo_brings_its_person(tmp_path):
    """CelebAMask-HQ's lists name photos; where people are known, all photos of those people are held out."""
    touch(tmp_path, *(f"CelebA-HQ-img/{n}.jpg" for n in range(4)))
    rows = "".join(f"{n} {n} 00000{n}.jpg\n" for n in range(4))
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(rows)
    (tmp_path / "identity_CelebA.txt").write_text("".join(f"00000{n}.jpg {n // 2}\n" for n in range(4)))
    touch(tmp_path / "lists", "x")
    (tmp_path / "lists" / "celebamask_test.txt").write_text("3\n")
    assert [s.split == "test" for s in PhotoSource(tmp_path, tmp_path / "lists")] == [False, False, True, True]


def test_good_photos_are_kept_and_bad_ones_named(prepared):
    assert sorted(rows_of(prepared)) == ["ann/1.png", "ann/2.png", "bob/1.png", "eve/whole.png"]
    with open(prepared / "dropped.csv", encoding="utf-8") as file:
        dropped = {row["photo"]: row["kind"] for row in csv.DictReader(file)}
    assert dropped == {
        "ann/cut.png": "unreadable",
        "bob/sky.png": "no face",
        "bob/text.jpg": "unreadable",
        "eve/tiny.png": "small",
    }


def test_datasets_maps_the_shards_into_memory(prepared, aligned, reader):
    import datasets

    faces = PreparedFaces(prepared)
    assert faces.table.cache_files  # an Arrow file on disk, not a table in memory
    assert faces.table.dataset_size and Path(faces.table.cache_files[0]["filename"]).is_relative_to(prepared)
    assert datasets.load_dataset(str(prepared), cache_dir=str(prepared / ".cache"))["train"].num_rows >= len(faces)
    by_name = {face.name: face for face in faces}
    first, mirrored, whole = by_name["ann/1.png"], by_name["ann/2.png"], by_name["eve/whole.png"]
    assert np.array_equal(first.image, aligned)  # an aligned photo is not touched, PNG keeps it
    assert first.landmarks.shape == (68, 2) and first.landmarks[36, 0] < first.landmarks[45, 0]
    assert np.isclose(np.linalg.norm(first.id_embed), 1, atol=1e-4)
    assert first.id_embed @ mirrored.id_embed > 0.9 and first.id_embed @ whole.id_embed > 0.9
    assert first.skin_mask[150, 100] and not first.skin_mask[5, 5] and 0.1 < first.skin_mask.mean() < 0.6
    assert np.abs(whole.image.astype(int) - aligned).mean() < 8  # found, turned and cut as by hand


def test_killed_and_resumed_gives_the_same_shards(photos, prepared, tmp_path):
    """SIGKILL while two workers are at it; the workers end too, and the same command finishes the rest."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "idinpaint.cli", "prepare", str(photos), str(out), "--shard-size", "2"]
    env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*command, "--workers", "2"], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(out.glob(".prepare/*-0000?.json")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    (out / "data").mkdir(exist_ok=True)
    (out / "data" / ".train-00001.parquet.1.tmp").write_bytes(b"half a shard")
    with pytest.raises(InputError, match="not prepared to the end"):
        training_photos(out, "unused")
    time.sleep(0.5)  # for the workers to notice
    kept = {path: path.stat().st_mtime_ns for path in out.glob(".prepare/*-0000?.json")}
    assert kept
    assert main(["prepare", str(photos), str(out), *OPTIONS]) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())  # what was done is not done again
    assert not list(out.glob("data/.*"))
    assert sorted(p.name for p in out.glob("data/*")) == sorted(p.name for p in prepared.glob("data/*"))
    again, before = rows_of(out), rows_of(prepared)
    assert list(again) == list(before)
    for name, row in before.items():  # other numbers of threads may round differently
        for key, value in row.items():
            same = np.allclose(again[name][key], value, atol=1e-3) if key in ("landmarks", "id_embed") else True
            same &= again[name][key] == value if key in ("image", "identity", "split", "faces") else True
            assert same, (name, key)


def test_a_run_goes_on_only_with_the_same_settings(photos, prepared, capsys, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in prepared.glob("data/*")}
    assert main(["prepare", str(photos), str(prepared), *OPTIONS, "--image-format", "jpeg"]) == 2
    assert "image_format (png, now jpeg); prepare into a new folder" in capsys.readouterr().err
    assert main(["prepare", str(photos / "ann"), str(prepared), *OPTIONS]) == 2
    assert "photos (8, now 3)" in capsys.readouterr().err
    assert main(["prepare", str(photos), str(photos / "out")]) == 2
    assert "lies inside" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path), str(tmp_path.parent / "none")]) == 2
    assert "no photos there" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in prepared.glob("data/*")}


def test_training_reads_a_prepared_folder(prepared, aligned):
    """The functions that the training scripts call; `data` may also be the folder above."""
    for data in (prepared, prepared.parent):
        entries = training_photos(data, "unused")
        photos = load_photos(entries)
        assert photos.shape == (len(entries), 256, 256, 3)
        index = next(i for i, e in enumerate(entries) if e.key == "ann/1.png")
        assert entries[index].person == "out/ann"
        assert np.array_equal(photos[index], aligned)
        assert photos[0:2].shape == (min(2, len(entries)), 256, 256, 3)
        assert np.array_equal(photos[np.array([index, index])][1], aligned)
    assert load_photos(entries, 64)[index].shape == (64, 64, 3)
    assert load_training_masks(prepared, "unused") == []


def test_annotated_skin_is_cut_like_the_photo(reader, aligned, tmp_path, monkeypatch):
    """It has another resolution than the photo; a damaged one is predicted instead, and that is told."""
    monkeypatch.setattr(reader, "root", tmp_path)
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "whole.png")
    Image.fromarray(aligned).save(tmp_path / "crop.png")
    half = np.zeros((512, 512), np.uint8)
    half[:, 256:] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    left_of_face = np.zeros((256, 256), np.uint8)
    left_of_face[:, :85] = 255  # astronaut px 170
    Image.fromarray(left_of_face).save(tmp_path / "left.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    sources = [Source("crop.png", "a", "", "half.png"), Source("whole.png", "b", "", "left.png")]
    sources.append(Source("crop.png", "c", "", "broken.png"))
    crop, whole, broken = reader.read(sources)
    assert crop.skin_source == "annotated" and np.array_equal(crop.skin, np.arange(256)[None] >= np.full((256, 1), 128))
    a, b, c = whole.crop_to_photo[0]
    edge = (170 - c - b * 128) / a  # of the mask, in the crop's middle row
    assert whole.skin_source == "annotated" and abs(int(whole.skin[128].argmin()) - edge) <= 2
    assert broken.skin_source == "predicted" and [note.kind for note in broken.notes] == ["skin mask"]


def test_a_cut_off_face_is_mirrored_or_dropped(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "root", tmp_path)
    photo = skimage.data.astronaut()[:, 120:400]
    matrix = np.array([[1.0, 0, -60.0], [0, 1.0, 20.0]])
    crop = reflected_crop(photo, matrix)
    assert np.array_equal(crop[:, 60:], photo[20:276, :196]) and np.array_equal(crop[:, 59], photo[20:276, 1])
    face = reader.analyzer.search.locate(skimage.data.astronaut())[0]
    chin = int(face.centre[1] + 0.05 * face.side)
    Image.fromarray(skimage.data.astronaut()[:chin]).save(tmp_path / "cut.png")
    (result,) = reader.read([Source("cut.png", "cut.png")])
    assert not isinstance(result, Face) and isinstance(result[1], Drop) and result[1].kind in ("cut off", "no face")


@pytest.mark.parametrize("text", ["[]", "5", '{"shards": 5}', '{"shards": [1]}', '{"shards', ""])
def test_a_list_of_shards_that_is_none(tmp_path, photos, capsys, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prepare.json").write_text(text)
    assert main(["prepare", str(photos), str(tmp_path / "out"), *OPTIONS]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_flipped_bit_in_a_shard_is_told_and_mended(photos, prepared, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(prepared, out, ignore=shutil.ignore_patterns(".cache"))
    path = next(p for p in sorted(out.glob("data/train-*")))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="not as it was written .*prepare` again"):
        PreparedFaces(out)
    others = {p: p.stat().st_mtime_ns for p in out.glob("data/*") if p != path}
    assert main(["prepare", str(photos), str(out), *OPTIONS]) == 0
    assert path.read_bytes() == (prepared / "data" / path.name).read_bytes() and len(PreparedFaces(out))
    assert {p: p.stat().st_mtime_ns for p in others} == others


def test_odd_names_links_pipes_and_a_second_run(tmp_path, aligned, capsys):
    """A name that is not UTF-8 is a photo like others; a loop of links or a pipe is dropped; a second run keeps out."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in (b"1.png", b"\xff.png"):
        with open(os.path.join(os.fsencode(source), name), "wb") as file:
            Image.fromarray(aligned).save(file, "PNG")
    (source / "2.png").symlink_to("2.png")
    os.mkfifo(source / "3.png")
    with locked(out):
        assert main(["prepare", str(source), str(out), *OPTIONS]) == 2
    assert "another run is writing into it" in capsys.readouterr().err and not out.exists()
    assert main(["prepare", str(source), str(out), *OPTIONS]) == 0
    lines = (out / "dropped.csv").read_text().splitlines()
    assert sorted(rows_of(out)) == ["1.png", "\\udcff.png"]
    assert [line.split(",")[0] for line in lines[1:]] == ["2.png", "3.png"]


def test_sigterm_leaves_nothing_half_written(photos, tmp_path):
    """Two workers in the middle of their shards."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "idinpaint.cli", "prepare", str(photos), str(out), "--shard-size", "2"]
    env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*command, "--workers", "2"], env=env, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("data/.*.tmp")) and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 143 and error.splitlines()[-1] == "idinpaint: error: terminated", error
    assert "Traceback" not in error and not list(out.rglob("*.tmp"))
