"""Grids of generated images: every image at its position, and nothing drawn from a file that holds none."""

import numpy as np
import pytest

from tailkeep.report import write
from tailkeep.report.lab.samples import mosaic
from tests.report.built_runs import finish, new_run


def image_run(path, images, *, generations=5):
    with new_run(path, arms=("baseline",), seeds=(0,), generations=generations) as run:
        for generation in range(generations):
            cell = run.generation_dir("baseline", 0, generation)
            folder = cell.samples / "common"
            folder.mkdir(parents=True)
            if isinstance(images, bytes):
                (folder / "images.npy").write_bytes(images)
            else:
                np.save(folder / "images.npy", images, allow_pickle=images.dtype == object)
            finish(cell, {"latent_std": 1.0 / (1 + generation)}, learner="vae")
    return path


def test_a_mosaic_holds_each_image_in_reading_order():
    images = np.arange(23 * 4 * 5, dtype=np.uint16).astype(np.uint8).reshape(23, 4, 5)
    whole = mosaic(images)
    assert whole.shape == (3 * 5 + 1, 10 * 6 + 1)
    for index, image in enumerate(images):
        row, column = 1 + 5 * (index // 10), 1 + 6 * (index % 10)
        assert (whole[row : row + 4, column : column + 5] == image).all()


def test_more_than_a_hundred_images_are_shortened_to_a_hundred():
    assert mosaic(np.zeros((250, 2, 2), dtype=np.uint8)).shape == (31, 31)


@pytest.mark.parametrize(("generations", "shown"), [(1, [0]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8])])
def test_the_page_shows_up_to_five_generations_of_an_arm(generations, shown, tmp_path):
    write(image_run(tmp_path / "run", np.zeros((120, 8, 8), dtype=np.uint8), generations=generations))
    svg = (tmp_path / "run" / "figures" / "vae-images-baseline.svg").read_text(encoding="utf-8")
    assert svg.count("<image") == len(shown)
    assert all(f"generation {generation}" in svg for generation in shown)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Generated images" in page
    assert (
        f"The first 100 images that the models of the first seed generate, at generation {', '.join(map(str, shown))}."
        in page
    )


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 8, 8)),
        np.zeros((3, 8), dtype=np.uint8),
        np.zeros((0, 8, 8), dtype=np.uint8),
        np.zeros((1, 4000, 8), dtype=np.uint8),
        np.array([{}], dtype=object),
        b"no array",
        b"",
    ],
    ids=["floats", "flat", "none", "huge", "objects", "text", "empty"],
)
def test_a_file_without_images_is_skipped_and_the_page_is_still_written(images, tmp_path):
    page = write(image_run(tmp_path / "run", images, generations=1)).read_text(encoding="utf-8")
    assert "Generated images" not in page
    assert "Latent spread" in page
