"""Optional packages, imported by name; a missing one is named with its install line.

Rule: only what is missing is explained. A package that is there and broken shows its own error.
"""

import re
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

from tailkeep.errors import MissingPackageError


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, or say which extra of tailkeep brings it.

    Raises:
        MissingPackageError: the package is not installed, or is too old to have this module.
    """
    package = module.partition(".")[0]
    install = f"'tailkeep[{extra}]'"
    try:
        import_module(package)
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name == package:
            message = f"{package} is not installed, and this needs it. Install it with: pip install {install}"
        elif error.name is not None and f"{module}.".startswith(f"{error.name}."):
            message = f"the installed {package} has no {error.name}. Upgrade it with: pip install --upgrade {install}"
        else:
            raise
        raise MissingPackageError(message, name=error.name) from None


def require_version(package: str, minimum: tuple[int, int], *, extra: str, purpose: str) -> None:
    """Refuse an installed `package` older than `minimum`, where `purpose` needs more than the extra's lower bound.

    Raises:
        MissingPackageError: it is older.
    """
    installed = version(package)
    numbers = tuple(int(number) for number in re.findall(r"\d+", installed)[:2])
    if numbers < minimum:
        minimum_version = ".".join(map(str, minimum))
        raise MissingPackageError(
            f"{purpose} needs {package} >= {minimum_version}, and {installed} is installed. "
            f"Upgrade it with: pip install --upgrade 'tailkeep[{extra}]' '{package}>={minimum_version}'",
            name=package,
        )
