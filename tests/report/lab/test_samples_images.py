"""Rows of generated images: the same draws in every generation, and nothing drawn from a file that holds none."""

import numpy as np
import pytest

from tailkeep.report import write
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


@pytest.mark.parametrize(("generations", "shown"), [(1, [0]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8])])
def test_the_page_shows_up_to_five_generations_of_an_arm(generations, shown, tmp_path):
    write(image_run(tmp_path / "run", np.zeros((120, 8, 8), dtype=np.uint8), generations=generations))
    svg = (tmp_path / "run" / "figures" / "vae-images.svg").read_text(encoding="utf-8")
    assert svg.count("<image") == 14 * len(shown)
    assert all(f"gen. {generation}<" in svg for generation in shown)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "The first 14 images of the first seed in each generation" in page


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
    assert "What the models generate" not in page
    assert "Latent spread" in page
