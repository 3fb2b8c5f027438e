"""From the data that a study names to the space it draws in; what costs is made once and shared by all arms."""

from collections.abc import Callable, MutableMapping
from typing import Any

from tailkeep.lab.images.classifier import train_classifier
from tailkeep.lab.images.settings import ImageMeasuring
from tailkeep.lab.images.source import read_images
from tailkeep.lab.numbers import ModesWorld
from tailkeep.lab.spaces.gallery import Gallery
from tailkeep.lab.spaces.moons import MoonsWorld
from tailkeep.lab.spaces.plane import Plane, draw_plane
from tailkeep.lab.spaces.settings import SpaceStudy


def build_space(study: SpaceStudy, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Plane | Gallery:
    """The space of `study.data`, points drawn with `seed` or images as they are.

    Raises:
        InputError: images that cannot be read or used.
    """
    if isinstance(study.data, ModesWorld | MoonsWorld):
        return draw_plane(study.data, seed=seed)
    data, steps = study.data, (study.measuring or ImageMeasuring()).classifier_steps
    source = study.model_dump_json(include={"data"})
    images = _once(shared, f"images {source}", lambda: read_images(data))
    return Gallery(
        images,
        lambda: _once(
            shared, f"classifier {steps} {source}", lambda: train_classifier(images, steps=steps, device=device)
        ),
    )


def _once(shared: MutableMapping[str, Any], key: str, make: Callable[[], Any]) -> Any:
    if key not in shared:
        shared[key] = make()
    return shared[key]
