"""Supervised fine-tuning with truncated cross-entropy, in the form of TRL's example scripts.

    pip install 'tailkeep[trl]'
    python trl_truncated_sft.py --model_name_or_path MODEL --dataset_name json --data_files train.jsonl --output_dir OUT

Tokens whose probability exceeds `--threshold` add nothing to the loss (ForTIFAI, arXiv 2509.08972): where the training
text was written by a model, those are the tokens that teach it nothing but confidence. The log has the share that is
kept. Everything else, evaluation too, is SFTTrainer's own.
"""

from dataclasses import dataclass, field

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config, get_quantization_config

from tailkeep.integrations.trl import use_loss


@dataclass
class TruncationArguments:
    dataset_name: str = field(metadata={"help": "A dataset of the hub, or json with --data_files."})
    data_files: str | None = field(default=None, metadata={"help": "The files of a local dataset."})
    threshold: float = field(default=0.99, metadata={"help": "The probability above which a token is ignored."})


def main() -> None:
    script, training, model = TrlParser((TruncationArguments, SFTConfig, ModelConfig)).parse_args_and_config()
    network = AutoModelForCausalLM.from_pretrained(
        model.model_name_or_path,
        revision=model.model_revision,
        dtype=model.dtype or "auto",
        attn_implementation=model.attn_implementation,
        quantization_config=get_quantization_config(model),
    )
    trainer = SFTTrainer(
        model=network,
        args=training,
        peft_config=get_peft_config(model),
        train_dataset=load_dataset(script.dataset_name, data_files=script.data_files, split="train"),
        processing_class=AutoTokenizer.from_pretrained(model.model_name_or_path, revision=model.model_revision),
    )
    use_loss(trainer, "truncated", threshold=script.threshold)
    trainer.train()
    trainer.save_model(training.output_dir)


if __name__ == "__main__":
    main()
