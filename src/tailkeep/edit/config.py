"""What a user chooses of an edit.

    prior: {path: some/folder}
    rule: {name: toedit, threshold: 0.99}
    sampler: {top_k: 8}
    layout: {text_fields: [text]}

Rule: the defaults are those of ToEdit (arXiv 2412.14689), and a choice without effect is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import InputPath, Settings, dump_tree, merge, parse_assignments, read_yaml, validate
from tailkeep.data.corpus import Layout, OnError
from tailkeep.errors import ConfigError, InputError
from tailkeep.rules import Protection, Rule, Sampler, ToEdit, check_has_effect
from tailkeep.scoring import Prior

# They decide whether a run goes on, never what a finished shard holds, so they stay out of the fingerprint.
NOT_FINGERPRINTED = ("on_error", "previous_runs", "force", "sample_weights")


class EditConfig(Settings):
    """An edit of a corpus.

    Attributes:
        num_threads: of each worker; sums differ with their number.
        output: the edited documents, the token ids with the edits, or both. Ids of edited text are not what
            tokenizing it again gives, so a trainer that wants what the prior saw takes the ids.
        row_groups: cut a parquet file into shards of so many row groups, for more workers than files; the output is
            one file again.
        on_error: whether a document that cannot be read stops the run, or is rejected.
        previous_runs: an input file with the sha256 of one of their outputs is an edited copy.
        force: edit a corpus that is known to be edited already.
        sample_weights: output of `tailkeep select`: documents of weight 0 are excluded, all others edited once, for how
            often a document is trained on is the trainer's affair. Their content is in the fingerprint.
    """

    prior: Prior
    rule: Rule = Field(default_factory=ToEdit)
    sampler: Sampler = Sampler()
    protection: Protection = Protection()
    layout: Layout = Layout()
    seed: Annotated[int, Field(ge=0)] = 0
    num_threads: Annotated[int, Field(ge=1)] = 1
    output: Literal["text", "tokens", "both"] = "text"
    row_groups: Annotated[int, Field(ge=1)] | None = None
    on_error: OnError = "stop"
    previous_runs: tuple[str, ...] = ()
    force: bool = False
    sample_weights: InputPath | None = None

    @model_validator(mode="after")
    def _ids_stay_ids(self) -> Self:
        if self.layout.token_field and self.output != "text":
            raise ValueError(
                f"output {self.output!r} does nothing beside layout.token_field: documents of token ids come out as "
                "such. Leave it out"
            )
        return self

    @model_validator(mode="after")
    def _can_change_something(self) -> Self:
        check_has_effect(self.rule, self.sampler)
        return self

    def fingerprint_tree(self) -> dict[str, Any]:
        """The keys that can change an output, as plain values. The identity of the prior is recorded separately."""
        tree = self.model_dump(mode="json")
        # Whose ids they are is either that of the prior's tokenizer or refused.
        del tree["layout"]["tokenizer"]
        return {key: value for key, value in tree.items() if key not in {"prior", *NOT_FINGERPRINTED}}


def load(
    source: Path | Mapping[str, Any] | None = None,
    *,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> EditConfig:
    """The configuration in a YAML file or a mapping, with overrides and options on top.

    Args:
        source: the file or the mapping; nothing but defaults if not given.
        overrides: `key.subkey=value`, such as `rule.threshold=0.9`.
        options: a tree that beats both, such as that of the command's own options.

    Raises:
        ConfigError: unknown keys, or values that cannot be used.
        InputError: the file cannot be read, or there is no folder for the prior.
    """
    tree = read_yaml(source) if isinstance(source, Path) else source or {}
    name = str(source) if isinstance(source, Path) else "config"
    tree_with_overrides = merge(merge(tree, parse_assignments(overrides)), options or {})
    if tree_with_overrides.get("prior") is None:
        raise ConfigError(
            f"{name}: the key 'prior' is missing. Give --prior PATH, or prior: {{path: ...}} in the file."
        )
    path = tree_with_overrides["prior"].get("path") if isinstance(tree_with_overrides["prior"], Mapping) else None
    # A Path forgets its './', and what remains could be a hub id.
    if isinstance(path, str) and path.startswith("./") and not Path(path).exists():
        raise InputError(f"prior.path: there is no folder {path}. Give the path of a model folder, or a hub id.")
    return validate(EditConfig, tree_with_overrides, source=name)


def dump(config: EditConfig) -> str:
    """`config` as YAML that `load` reads back."""
    tree = config.model_dump(mode="json")
    if config.layout.chat or config.layout.token_field:
        # Beside these they have no effect and would be refused.
        tree["layout"] = {key: tree["layout"][key] for key in tree["layout"] if key not in _FIELDS}
    return dump_tree(tree)


_FIELDS = ("text_fields", "prompt_fields")
