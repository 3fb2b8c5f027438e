"""The recipes that ship with the package: one YAML file an experiment, with what it shows in its header."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tailkeep.config import read_yaml, suggest
from tailkeep.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """A packaged experiment."""

    name: str
    path: Path
    shows: str


def list_recipes() -> list[Recipe]:
    """Every packaged recipe, by name."""
    folder = Path(str(files("tailkeep") / "recipes"))
    return [Recipe(path.stem, path, str(read_yaml(path).get("shows", ""))) for path in sorted(folder.glob("*.yaml"))]


def find_recipe(name: str) -> Path:
    """The file of the recipe called `name`, or `name` itself if it is a YAML file.

    Raises:
        ConfigError: neither exists.
    """
    if Path(name).suffix in {".yaml", ".yml"}:
        return Path(name)
    recipes = {recipe.name: recipe.path for recipe in list_recipes()}
    if name in recipes:
        return recipes[name]
    raise ConfigError(f"no recipe is called {name!r}.{suggest(name, [*recipes])} Or give a path that ends in .yaml.")
