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

from tailkeep.config import InputPath, load_tree, validate
from tailkeep.data.corpus import JobConfig, OnError
from tailkeep.errors import ConfigError, InputError
from tailkeep.rules import Protection, Rule, Sampler, ToEdit, check_has_effect, default_to_toedit
from tailkeep.scoring import Prior


class EditConfig(JobConfig):
    """An edit of a corpus.

    Attributes:
        seed: of the numbers by which tokens are resampled.
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
        rule: which tokens are resampled or deleted, by their probability under the prior.
    """

    not_fingerprinted = frozenset({"on_error", "previous_runs", "force", "sample_weights"})

    prior: Prior
    rule: Rule = Field(default_factory=ToEdit)
    sampler: Sampler = Sampler()
    protection: Protection = Protection()
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

    @property
    def risks_facts(self) -> bool:
        """Whether the sampler prefers unlikely tokens, while names and numbers may change."""
        prefers_unlikely = self.sampler.temperature > 1 or self.sampler.exclude_original
        return prefers_unlikely and not self.protection.entities

    def fingerprint_tree(self) -> dict[str, Any]:
        """See `JobConfig`."""
        tree = super().fingerprint_tree()
        # Whose ids they are is either that of the prior's tokenizer or refused.
        del tree["layout"]["tokenizer"]
        return tree


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
    tree, name = load_tree(source, overrides=[], options=None)
    # Written out, so that an override which names another kind of rule inherits nothing of the file's; keys that the
    # default kind lacks can only mean the one that an override names.
    rule = tree.get("rule")
    if isinstance(rule, Mapping) and rule.keys() <= ToEdit.model_fields.keys():
        tree = {**tree, "rule": default_to_toedit(rule)}
    tree, _ = load_tree(tree, overrides=overrides, options=options)
    if tree.get("prior") is None:
        raise ConfigError(
            f"{name}: the key 'prior' is missing. Give --prior PATH, or prior: {{path: ...}} in the file."
        )
    path = tree["prior"].get("path") if isinstance(tree["prior"], Mapping) else None
    # A Path forgets its './', and what remains could be a hub id.
    if isinstance(path, str) and path.startswith("./") and not Path(path).exists():
        raise InputError(f"prior.path: there is no folder {path}. Give the path of a model folder, or a hub id.")
    return validate(EditConfig, tree, source=name)
