"""Which arguments of transformers' `TrainingArguments` a configuration may set, and what sets the others.

Rule: an argument that the laboratory decides is refused, and the message names the key that decides it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tailkeep.config import Settings

Tracker = Literal["tensorboard", "wandb"]
Beta = Annotated[float, Field(ge=0, lt=1)]

_OTHER_KEYS = {
    "learning_rate": "Set training.learning_rate (and finetune.learning_rate)",
    "num_train_epochs": "Set training.epochs",
    "max_steps": "Set training.epochs, which counts passes over the budget",
    "per_device_train_batch_size": "Set training.batch",
    "gradient_accumulation_steps": "Set training.gradient_accumulation",
    "max_grad_norm": "Set training.max_grad_norm",
    "warmup_ratio": "Set training.arguments.warmup_steps, which is a share of all steps where it is below 1",
    "label_smoothing_factor": "Set loss",
    "seed": "Set seeds",
    "data_seed": "Set seeds, or training.data_order for another order under the same seed",
    "bf16": "Set dtype.train",
    "fp16": "Set dtype.train",
    "use_cpu": "Set device",
    "output_dir": "Give --out",
    "resume_from_checkpoint": "Run the same command again: it resumes by itself",
}
_OTHER_PREFIXES = {
    "save_": "Leave it out: checkpoints inside a phase are saved by themselves",
    "logging_": "Leave it out: the training curve is read at most 100 times, and report_to gets every reading",
    "eval_": "Set evaluation: each generation is measured when its training ends",
    "dataloader_": "Leave it out: the rows are in memory",
}


class TrainerArguments(Settings):
    """What is passed on to transformers' `TrainingArguments` as it is. The defaults are Adam at a constant rate.

    `warmup_steps` counts optimizer steps, or is a share of all steps where it is below 1. `report_to` names trackers
    that get each reading of the training curve: TensorBoard's files are in the folder `tensorboard` of each generation.

    Attributes:
        lr_scheduler_type: the schedule, by the names of transformers.
        lr_scheduler_kwargs: its arguments.
        weight_decay: decoupled, as in AdamW.
        optim: the optimizer, by the names of transformers.
        optim_args: its arguments, as text.
        adam_beta1: of Adam.
        adam_beta2: of Adam.
        adam_epsilon: of Adam.
        gradient_checkpointing: compute activations again in the backward pass, for less memory.
        gradient_checkpointing_kwargs: its arguments.
        run_name: the name that trackers show.
    """

    lr_scheduler_type: str = "constant"
    lr_scheduler_kwargs: dict[str, Any] = Field(default_factory=dict)
    warmup_steps: Annotated[float, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    optim: str = "adamw_torch"
    optim_args: str | None = None
    adam_beta1: Beta = 0.9
    adam_beta2: Beta = 0.999
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    gradient_checkpointing: bool = False
    gradient_checkpointing_kwargs: dict[str, Any] = Field(default_factory=dict)
    report_to: tuple[Tracker, ...] = ()
    run_name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_keys(cls, value: Any) -> Any:
        for key in value if isinstance(value, Mapping) else ():
            advice = _OTHER_KEYS.get(key) or next(
                (text for prefix, text in _OTHER_PREFIXES.items() if str(key).startswith(prefix)), None
            )
            if advice is not None:
                raise ValueError(f"{key!r} is none of the arguments that are passed on. {advice}")
        return value

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            return () if value == "none" else (value,)
        return value

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        if self.lr_scheduler_type == "constant" and self.warmup_steps:
            raise ValueError(
                "warmup_steps has no effect with lr_scheduler_type 'constant'. Set lr_scheduler_type: "
                "constant_with_warmup"
            )
        if self.gradient_checkpointing_kwargs and not self.gradient_checkpointing:
            raise ValueError("gradient_checkpointing_kwargs has no effect. Set gradient_checkpointing: true")
        if self.run_name is not None and "wandb" not in self.report_to:
            raise ValueError("run_name is the name in wandb. Set report_to: wandb")
        return self
