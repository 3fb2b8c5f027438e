"""Real images: idx files that are what they say, and those that are not; the embedded digits."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab import load
from tailkeep.lab.generative.config import Digits, Idx
from tailkeep.lab.generative.images import read_idx, read_images
from tests.lab.generative.idx_files import idx_bytes, pair, write_idx

IMAGES = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)


def idx(images, labels, **keys):
    return Idx(name="idx", images=images, labels=labels, **{"held_out": 10, **keys})


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_what_was_written_is_read_back(name, tmp_path):
    assert (read_idx(write_idx(tmp_path / name, IMAGES), dimensions=3) == IMAGES).all()


def test_labels_in_the_place_of_images_have_another_magic_number(tmp_path):
    path = write_idx(tmp_path / "labels", np.zeros(5, dtype=np.uint8))
    with pytest.raises(
        InputError, match=r"labels: an idx file of images begins with 00000803, got 00000801\..*data\.labels"
    ):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"hello, I am a text", gzip.compress(idx_bytes(IMAGES), mtime=0)])
def test_a_file_of_another_kind_is_one_clear_error(content, tmp_path):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(InputError, match=r"images: an idx file of images begins with 00000803, got "):
        read_idx(tmp_path / "images", dimensions=3)


@pytest.mark.parametrize("length", [4, 9, 16, 17, len(idx_bytes(IMAGES)) - 1])
def test_a_file_cut_short_is_one_clear_error_that_names_it(length, tmp_path):
    (tmp_path / "cut").write_bytes(idx_bytes(IMAGES)[:length])
    with pytest.raises(InputError, match="cut is truncated"):
        read_idx(tmp_path / "cut", dimensions=3)


@pytest.mark.parametrize("name", ["liar", "liar.gz"])
def test_a_header_that_says_more_than_memory_holds_sets_nothing_aside(name, tmp_path):
    for count in (1 << 20, 1 << 30, (1 << 32) - 1):
        header = bytes((0, 0, 8, 3)) + struct.pack(">3I", count, count, count)
        (tmp_path / name).write_bytes(gzip.compress(header + b"x") if name.endswith(".gz") else header + b"x")
        with pytest.raises(InputError, match=rf"{name} is truncated: its header says {count**3:,} bytes .* got 1\."):
            read_idx(tmp_path / name, dimensions=3)


@pytest.mark.parametrize("length", [12, 60, -9])
def test_a_compressed_file_cut_short_is_one_clear_error_that_names_it(length, tmp_path):
    (tmp_path / "cut.gz").write_bytes(gzip.compress(idx_bytes(IMAGES))[:length])
    with pytest.raises(InputError, match=r"cut\.gz is truncated"):
        read_idx(tmp_path / "cut.gz", dimensions=3)


def test_a_file_that_is_too_long_or_not_compressed_or_not_there_is_refused(tmp_path):
    (tmp_path / "long").write_bytes(idx_bytes(IMAGES) + b"\0")
    (tmp_path / "plain.gz").write_bytes(idx_bytes(IMAGES))
    for name, words in {"long": "more than the 192 bytes", "plain.gz": "cannot read", "none": "No such file"}.items():
        with pytest.raises(InputError, match=words):
            read_idx(tmp_path / name, dimensions=3)


def test_unequal_counts_are_an_error_unless_take_says_how_many(tmp_path):
    images, labels = pair(tmp_path, images=40, labels=50)
    with pytest.raises(InputError, match=r"40 images and .* 50 labels.*data\.take"):
        read_images(idx(images, labels))
    assert len(read_images(idx(images, labels, take=30)).train) == 20
    with pytest.raises(InputError, match="take must be at most 40, the number of labelled images, got 41"):
        read_images(idx(images, labels, take=41))


def test_the_last_images_are_held_out_or_a_file_of_their_own(tmp_path):
    images, labels = pair(tmp_path, images=40)
    whole = read_idx(images, dimensions=3)
    real = read_images(idx(images, labels, held_out=15))
    assert (real.train.values == whole[:25]).all()
    assert (real.held_out.values == whole[25:]).all()
    assert real.classes == 3
    assert real.held_out_labels.tolist() == (np.arange(25, 40) % 3).tolist()
    (tmp_path / "test").mkdir()
    test_images, test_labels = pair(tmp_path / "test", images=12, ending=".gz", seed=1)
    real = read_images(idx(images, labels, held_out=None, test={"images": test_images, "labels": test_labels}))
    assert (len(real.train), len(real.held_out)) == (40, 12)


def test_held_out_images_are_asked_for_once(tmp_path):
    with pytest.raises(ValueError, match="or test is needed for evaluation"):
        idx("a", "b", held_out=None)
    with pytest.raises(ValueError, match="no effect beside test"):
        idx("a", "b", test={"images": "c", "labels": "d"})
    with pytest.raises(InputError, match=r"held_out must be less than the number of images, 40, got 40"):
        read_images(idx(*pair(tmp_path), held_out=40))


def test_images_that_cannot_be_halved_twice_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"multiples of 4, got 10 x 10 pixels"):
        read_images(idx(*pair(tmp_path, side=10)))


def test_images_of_two_sizes_are_refused(tmp_path):
    (tmp_path / "test").mkdir()
    test_images, test_labels = pair(tmp_path / "test", side=12)
    with pytest.raises(InputError, match="Give images of one size"):
        read_images(idx(*pair(tmp_path), held_out=None, test={"images": test_images, "labels": test_labels}))


def test_the_embedded_digits_need_no_file_and_use_all_greys():
    pytest.importorskip("sklearn")
    real = read_images(Digits())
    assert (len(real.train), len(real.held_out), real.classes) == (1200, 597, 10)
    assert (real.train.size, real.train.values.min(), real.train.values.max()) == ((8, 8), 0, 255)


def test_a_recipe_without_its_files_is_told_in_one_line_each():
    with pytest.raises(ConfigError) as caught:
        load("mnist")
    assert ["data.images" in line or "data.labels" in line for line in str(caught.value).splitlines()] == [True, True]


@pytest.mark.skipif("TAILKEEP_DATA" not in os.environ, reason="needs the folder of real data, TAILKEEP_DATA")
def test_mnists_own_test_files_need_take_since_their_counts_differ():
    folder = Path(os.environ["TAILKEEP_DATA"]) / "images"
    files = (folder / "t10k-first3000-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(InputError, match=r"3,000 images and .* 10,000 labels"):
        read_images(idx(*files))
    real = read_images(idx(*files, take=3000))
    assert (len(real.train), real.train.size, real.classes) == (2990, (28, 28), 10)
    assert real.labels[:5].tolist() == [7, 2, 1, 0, 4]
