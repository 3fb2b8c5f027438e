"""The user's own code in a configuration: a reference such as `my_module:half`, and what it is called with.

    regime: {name: "my_module:Half", share: 0.3}

Rule: a configuration is read without importing anything. Code is imported only where a run begins, and its module's
source is part of the fingerprint.
"""

import hashlib
import importlib
import inspect
import re
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, create_model

from tailkeep.config.loader import describe, dotted, suggest, validate
from tailkeep.config.settings import Settings
from tailkeep.errors import CodeError, ConfigError, StorageError, TailkeepError
from tailkeep.sanitize import hidden_keys

_REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def _check_reference(reference: str) -> str:
    if not _REFERENCE.fullmatch(reference):
        raise ValueError("expected module:name, such as my_module:half")
    return reference


def _check_recorded(options: dict[str, Any]) -> dict[str, Any]:
    for keys in hidden_keys(options):
        raise ValueError(
            f"{dotted(keys)} is taken for a credential, by its name or its text, which no record holds, so another "
            "value would be taken for the same run. Rename it or word it otherwise; a real credential is read from an "
            "environment variable"
        )
    return options


CodeOptions = Annotated[dict[str, Any], AfterValidator(_check_recorded)]
"""What the user's own code is called with, by name. Each decides a result, so none may be hidden as a credential is."""


class UserCode(Settings):
    """A reference `code`, module:name, and the `options` that it is called with, by name.

    `leading` arguments come before them; they are the caller's. So is `seed`, by name, if it is `seeded`.
    """

    leading: ClassVar[int] = 0
    seeded: ClassVar[bool] = False
    name: Literal["code"]
    code: Annotated[str, AfterValidator(_check_reference)]
    options: CodeOptions = Field(default_factory=dict)

    def origin(self, part: str = "") -> str:
        """The code, or a `part` of it such as `.mix`, and the file of its module, which is imported."""
        path = getattr(sys.modules.get(self.code.partition(":")[0]), "__file__", None)
        return f"{self.code}{part} ({path})" if path else f"{self.code}{part}"

    def bind(self, key: str) -> Callable[..., Any]:
        """The function or class that is named, with its options; `key` stands in the messages.

        The options are checked against the signature: their names, that none is missing, and their types where it has
        annotations. `seed` is never an option. The other arguments are counted.

        Raises:
            ConfigError: the module cannot be imported, has no such name, or does not take these options.
        """
        function = _imported(self.code, key)
        return partial(function, **_checked_options(function, self, key))


def as_code(value: object, *, keep: Collection[str] = ()) -> object:
    """`value`, with a reference or a function in place of a name written out as the keys of `UserCode`.

    `my_module:half`, `{name: my_module:half, share: 0.3}` and, from Python, the function itself are such values. Keys
    other than those to `keep` become options.
    """
    if not isinstance(value, Mapping):
        return {"name": "code", "code": reference_to(value)} if is_reference(value) else value
    if not is_reference(value.get("name")):
        return value
    rest = {key: item for key, item in value.items() if key != "name"}
    options = {key: item for key, item in rest.items() if key not in keep}
    return {"name": "code", "code": reference_to(value["name"]), **{k: rest[k] for k in keep if k in rest}} | (
        {"options": options} if options else {}
    )


def is_reference(value: object) -> bool:
    """Whether `value` is module:name, or a function or class that can be so named."""
    return callable(value) or (isinstance(value, str) and ":" in value)


def reference_to(value: Any) -> str:
    """A function or class, or a reference, as module:name.

    Raises:
        ValueError: it is something else that can be called, such as a `functools.partial`, to which no name leads.
    """
    if isinstance(value, str):
        return value
    if not (getattr(value, "__module__", None) and getattr(value, "__qualname__", None)):
        raise ValueError(f"{describe(value)} has no name of its own in a module. Give a function or a class")
    return f"{value.__module__}:{value.__qualname__}"


def codes_in(value: Any, key: str = "") -> Iterator[tuple[str, UserCode]]:
    """The dotted key of each piece of code below `value`, and the piece."""
    if isinstance(value, UserCode):
        yield key, value
    elif isinstance(value, Settings):
        for name in type(value).model_fields:
            yield from codes_in(getattr(value, name), f"{key}.{name}".removeprefix("."))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from codes_in(item, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, item in enumerate(value):
            yield from codes_in(item, f"{key}.{index}".removeprefix("."))


def _checked_options(function: Any, choice: UserCode, key: str) -> dict[str, Any]:
    try:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[choice.leading :]
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(f"{key}: {choice.origin()} has no signature to check its options by ({error}).") from None
    named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY} and p.name != "seed"]
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default) for p in named
    }
    model: type[Settings] = create_model("Options", __base__=_Options, **fields)
    checked = validate(model, choice.options, source=f"{key} ({choice.code})")
    options = {name: getattr(checked, name) for name in sorted(checked.model_fields_set)}
    try:
        signature.bind(*[None] * choice.leading, **options, **({"seed": 0} if choice.seeded else {}))
    except TypeError as error:
        count = f"{choice.leading} argument{'s' * (choice.leading != 1)}{' and seed=' if choice.seeded else ''}"
        raise ConfigError(
            f"{key}: {choice.origin()} cannot be called ({error}). It is {signature!s:.200}; let it take {count}, "
            "then options."
        ) from None
    return options


class _Options(Settings):
    model_config = ConfigDict(arbitrary_types_allowed=True, validate_default=False, protected_namespaces=())


def source_hash(choice: UserCode, key: str) -> str:
    """The sha256 of the file that defines the module of `choice`.

    Raises:
        ConfigError: the module cannot be imported, or has no source file.
    """
    module = _module(choice.code.partition(":")[0], key)
    path = getattr(module, "__file__", None)
    if path is None:
        raise ConfigError(f"{key}: the module of {choice.code} has no source file. Put the code into a file.")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@contextmanager
def code_errors(codes: Iterable[tuple[str, UserCode]]) -> Iterator[None]:
    """Let an exception that comes out of the modules of `codes`, by key, say which code raised it, and where.

    Raises:
        CodeError: there was one. Every other exception passes as it is, and so does a `TailkeepError` but for one: a
            `StorageError` for which the code that saves is the reason, not the disk.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if cause is None or isinstance(cause, TailkeepError) or (cause is not error and not _is_of_code(cause)):
            raise
        for key, code in codes:
            module = sys.modules.get(code.code.partition(":")[0])
            path = getattr(module, "__file__", None)
            lines = [one for one in traceback.extract_tb(cause.__traceback__) if one.filename == path]
            if lines:
                raise CodeError(_raised(f"{key}: {code.code}", cause, lines[-1])) from cause
        raise


def _is_of_code(error: BaseException) -> bool:
    """Whether it is an `OSError` for which no full or broken disk is the reason, but a wrong path or name."""
    of_paths = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
    return isinstance(error, of_paths) or (isinstance(error, OSError) and error.errno is None)


def _raised(subject: str, error: BaseException, line: traceback.FrameSummary) -> str:
    where = "" if isinstance(error, SyntaxError) else f" ({line.filename}, line {line.lineno})"
    return f"{subject} raised {type(error).__name__}: {error}{where}. Correct it there."


def file_of(choice: UserCode, folders: Iterable[str]) -> Path | None:
    """Where in `folders` the module of `choice` is, without importing anything; None if it is nowhere."""
    parts = choice.code.partition(":")[0].split(".")
    for folder in folders:
        base = Path(folder or ".").joinpath(*parts)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _imported(reference: str, key: str) -> Any:
    module_name, _, names = reference.partition(":")
    value: Any = _module(module_name, key)
    for name in names.split("."):
        if not hasattr(value, name):
            known = [other for other in vars(value) if not other.startswith("_")]
            raise ConfigError(f"{key}: {module_name} has no {name!r}.{suggest(name, known)}")
        value = getattr(value, name)
    if not callable(value):
        raise ConfigError(f"{key}: {reference} is {type(value).__name__}, not a function or a class.")
    if inspect.isbuiltin(value):
        raise ConfigError(
            f"{key}: {reference} is not written in Python, so its source is in no fingerprint. Call it in a function "
            "of your own."
        )
    return value


def _module(name: str, key: str) -> Any:
    try:
        return importlib.import_module(name)
    except TailkeepError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{key}: there is no module {name!r}. Put {name.partition('.')[0]}.py beside the configuration, or "
                "install it."
            ) from None
        lines = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen")]
        raise CodeError(_raised(f"{key}: the import of {name}", error, lines[-1])) from error
