"""The batches of text that an unfinished phase has written, from which a killed run goes on.

    unfinished/<phase>/<part>/texts/<number>.npz

Rule: a batch is kept with the random state behind it, so the next one is the same in a run that was killed. Which batch
of which call it is follows from the order of calls within the phase, and the call's arguments are compared.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.phase import PhasePlace, Spacing, current_phase, unfinished_folder

_FIRST_COST = 0.05
"""The guess in seconds before the first file is written."""


@dataclass(frozen=True)
class WrittenBatch:
    """Batch `number` of the call `call` with the arguments `key`; `random_state` is that behind it."""

    call: int
    key: str
    number: int
    continuations: Sequence[Ids]
    random_state: NDArray[np.uint8]


class PhaseTexts:
    """All batches of one phase: those that an earlier run has left, and new ones until they are on the disk."""

    def __init__(self, place: PhasePlace) -> None:
        self._folder = unfinished_folder(place) / "texts"
        self._storage = place.generation_dir.storage
        files = sorted(self._folder.glob("*.npz"))
        self._num_files = len(files)
        self._earlier = [batch for file in files for batch in _read(file)]
        self._new: list[WrittenBatch] = []
        self._num_calls = 0
        self._spacing = Spacing(_FIRST_COST)

    def begin_call(self) -> int:
        """The number of the call that begins now."""
        self._num_calls += 1
        return self._num_calls - 1

    def find(self, call: int, key: str) -> list[WrittenBatch]:
        """The first batches of that call, as far as an earlier run has written them."""
        batches = sorted((batch for batch in self._earlier if batch.call == call), key=lambda batch: batch.number)
        return [batch for number, batch in enumerate(batches) if (batch.number, batch.key) == (number, key)]

    def add(self, batch: WrittenBatch) -> None:
        """Keep `batch`; now and then all new ones are written.

        Raises:
            StorageError: the file system refused.
        """
        self._new.append(batch)
        if not self._spacing.is_due:
            return
        with self._spacing.measure():
            self._storage.write_bytes(self._folder / f"{self._num_files:06d}.npz", _packed(self._new))
        self._num_files += 1
        self._new = []


class CallTexts:
    """The batches of one call within a phase; outside a phase nothing is kept."""

    def __init__(self, texts: PhaseTexts | None, key: str, device: torch.device) -> None:
        self._texts, self._key, self._device = texts, key, device
        self._call = 0 if texts is None else texts.begin_call()

    def restore(self) -> list[Sequence[Ids]]:
        """The batches that an earlier run has written, after whose last one the random state then is."""
        batches = [] if self._texts is None else self._texts.find(self._call, self._key)
        if batches:
            state = torch.from_numpy(batches[-1].random_state.copy())
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(state, self._device)
            else:
                torch.set_rng_state(state)
        return [batch.continuations for batch in batches]

    def add(self, number: int, continuations: Sequence[Ids]) -> None:
        """Keep what was written just now as batch `number`."""
        if self._texts is None:
            return
        on_gpu = self._device.type == "cuda"
        state = torch.cuda.get_rng_state(self._device) if on_gpu else torch.get_rng_state()
        self._texts.add(WrittenBatch(self._call, self._key, number, continuations, state.numpy()))


def begin_call(prompts: Sequence[Ids], arguments: Any, device: torch.device) -> CallTexts:
    """The batches of a call that continues `prompts` on `device`; `arguments` are all others that decide the text."""
    place = current_phase()
    if place is None:
        return CallTexts(None, "", device)
    digest = hashlib.sha256(repr(arguments).encode())
    for prompt in prompts:
        digest.update(len(prompt).to_bytes(8, "little") + np.ascontiguousarray(prompt, np.int32).tobytes())
    name = f"texts of {place.part}"
    if name not in place.memory:
        place.memory[name] = PhaseTexts(place)
    return CallTexts(place.memory[name], digest.hexdigest(), device)


def _packed(batches: Sequence[WrittenBatch]) -> bytes:
    arrays: dict[str, NDArray[Any]] = {}
    index = []
    for position, batch in enumerate(batches):
        index.append({"call": batch.call, "key": batch.key, "number": batch.number})
        arrays[f"ids_{position}"] = np.concatenate([np.zeros(0, np.int32), *batch.continuations])
        arrays[f"lengths_{position}"] = np.array([len(ids) for ids in batch.continuations], np.int64)
        arrays[f"random_state_{position}"] = batch.random_state
    content = io.BytesIO()
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def _read(path: Path) -> list[WrittenBatch]:
    try:
        # A file that is no archive is taken for a pickle, and refused; each array has a checksum.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if any(info.compress_type != zipfile.ZIP_STORED for info in arrays.zip.infolist()):
                raise ValueError("savez compresses nothing, so no array is larger than the file")
            index = json.loads(arrays["index"].tobytes())
            return [
                WrittenBatch(
                    continuations=np.split(arrays[f"ids_{n}"], np.cumsum(arrays[f"lengths_{n}"])[:-1]),
                    random_state=arrays[f"random_state_{n}"],
                    **entry,
                )
                for n, entry in enumerate(index)
            ]
    # An array's header can say more than memory holds, or than an index.
    except (OSError, EOFError, ValueError, KeyError, MemoryError, OverflowError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not what was written ({type(error).__name__}). Delete the folder {path.parent} and run the "
            "same command again; this phase then writes its texts anew."
        ) from None
