"""The configuration of language-model arms: tokenizer, model, training, generation and evaluation.

Rule: plain values only; nothing here imports torch.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tailkeep.config import CodeOptions, InputPath, Settings, UserCode, as_code
from tailkeep.lab.arm import ArmConfig, Positive
from tailkeep.lab.causal_lm.data_config import AnyCorpus, FixedDecoder, InterleavedCorpus, Sampling, TextCorpus
from tailkeep.lab.causal_lm.trainer_arguments import TrainerArguments
from tailkeep.lab.regimes import Regenerate, Replace, SelectRegime
from tailkeep.losses.options import CrossEntropy, NamedLoss


class UserLoss(Settings):
    """A weighting of the caller's own, handed to `run(..., losses={id: ...})`; change `version` when it changes.

    Attributes:
        id: the key of the weighting among `losses`.
        options: what the weighting is made with.
    """

    name: Literal["user"]
    id: str
    version: str
    options: CodeOptions = Field(default_factory=dict)


class CodeLoss(UserCode):
    """A loss of the user's own: weigh(nll, options...) -> the weight of each token's loss, (N,), from its NLL (N,)."""

    leading: ClassVar[int] = 1


AnyLoss = Annotated[Annotated[NamedLoss | UserLoss | CodeLoss, Field(discriminator="name")], BeforeValidator(as_code)]

UserLosses = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""A caller's own losses: id -> a function of the configured options that returns (N,) NLL -> (N,) factors, or a
`tailkeep.losses.Weighting`."""


class TrainTokenizer(Settings):
    """A byte-level BPE tokenizer trained on the real training text.

    Attributes:
        vocab_size: tokens of the vocabulary, the 256 bytes and the special ones among them.
    """

    vocab_size: Annotated[int, Field(ge=260)] = 512


class Tokenizer(Settings):
    """`path` of a tokenizer folder, or `train` a new one; neither means that of the pretrained model.

    `start_token` stands before each document, question and sample: `auto` follows the tokenizer, which puts one there
    or does not, `none` puts none, and any other word is the token itself, such as `<bos>`. Where documents are joined
    into one text (`generation.form: windows`), `start_before: block` puts it before each block that is trained on,
    scored or continued instead, as models were pretrained that expect one at the first position.

    `chat_template: true` writes records (`data.prompt_field`) as the tokenizer's template does, the prompt as the
    user's turn and the text as the assistant's; the template then decides how a record begins and ends.

    Attributes:
        append_eos: put an end token after each document.
    """

    path: InputPath | None = None
    train: TrainTokenizer | None = None
    append_eos: bool = True
    start_token: str = "auto"
    start_before: Literal["document", "block"] = "document"
    chat_template: bool = False

    @model_validator(mode="after")
    def _check_chat_template(self) -> Self:
        idle = sorted({"append_eos", "start_token"} & self.model_fields_set) if self.chat_template else []
        if idle:
            raise ValueError(f"{idle[0]} has no effect beside chat_template, which ends records. Leave it out")
        return self


class Pretrained(Settings):
    """A folder or hub id that holds safetensors weights, or a GGUF file.

    Attributes:
        path: the folder, hub id or GGUF file.
        revision: the branch, tag or commit on the hub.
    """

    name: Literal["pretrained"]
    path: InputPath
    revision: str | None = None


class Scratch(Settings):
    """New weights: `type` is a transformers model type, `config` its configuration without the vocabulary."""

    name: Literal["scratch"]
    type: str = "llama"
    config: dict[str, Any] = Field(default_factory=dict)


class MatchedTemperature(Settings):
    """Random sampling at the temperature at which the model's samples are as likely to it as real text is.

    It is searched for in each generation, when training ends, on `texts` prompts from the real training text, by
    `steps` halvings between `low` and `high`; see `generation`. `top_p` and `min_p` apply in the search and in use.
    """

    name: Literal["matched"]
    texts: Positive = 128
    low: Annotated[float, Field(gt=0)] = 0.25
    high: Annotated[float, Field(gt=0)] = 4.0
    steps: Positive = 8
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be < high, got low {self.low} and high {self.high}")
        return self

    def at(self, temperature: float) -> Sampling:
        """The decoder that samples at `temperature`."""
        return Sampling(name="sample", temperature=temperature, top_p=self.top_p, min_p=self.min_p)


AnyDecoder = Annotated[
    Annotated[FixedDecoder | MatchedTemperature, Field(discriminator="name")], BeforeValidator(as_code)
]


class DocumentPrompts(Settings):
    """Documents one by one: the first `prompt_tokens` of a real one, then up to `new_tokens` of the model's."""

    name: Literal["documents"]
    prompt_tokens: Positive = 1
    new_tokens: Positive = 64


class WindowPrompts(Settings):
    """ForTIFAI's windows over the joined text: `context` tokens, then exactly `new_tokens`, moving on by as many."""

    name: Literal["windows"]
    context: Positive = 96
    new_tokens: Positive = 32


AnyForm = Annotated[DocumentPrompts | WindowPrompts, Field(discriminator="name")]


class Generation(Settings):
    """How a model generates the next generation's data, `batch` sequences at a time.

    Attributes:
        form: documents from prompts, or windows of the joined text.
        decoder: how tokens are chosen.
    """

    form: AnyForm = DocumentPrompts(name="documents")
    decoder: AnyDecoder = Sampling(name="sample")
    batch: Positive = 256


class Training(Settings):
    """Adam at a constant learning rate, unless `arguments` say otherwise.

    `epochs` count passes over the stage's budget, not over its training set. Arms with another `data_order` see the
    same training set in another order under the same seed: how much that alone changes is the noise of a comparison.

    Attributes:
        block: tokens per row.
        batch: rows per device and step.
        learning_rate: the highest one, where it is scheduled.
        equal_tokens: train on equally many tokens in all arms: epochs count the stage's real data; else the
            training set.
        gradient_accumulation: batches per optimizer step.
        max_grad_norm: gradients are clipped to this norm; 0 clips none.
    """

    block: Annotated[int, Field(ge=2)] = 128
    batch: Positive = 16
    epochs: Annotated[float, Field(gt=0)] = 4
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    equal_tokens: bool = True
    data_order: Annotated[int, Field(ge=0)] = 0
    gradient_accumulation: Positive = 1
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    arguments: TrainerArguments = TrainerArguments()


class LowRank(Settings):
    """Low-rank adapters of all linear layers but the output, merged when training ends, scaled by `alpha` / `rank`."""

    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 16


class Finetune(Settings):
    """How a generation that starts from the previous model's weights trains, where that differs from `training`.

    `extrapolate` w: the model becomes base - w (trained - base), base being the previous model, whose text it was
    trained on, and trained the result of that training, adapters included (Neon, arXiv 2510.03597).

    Attributes:
        epochs: instead of those of `training`.
        learning_rate: instead of that of `training`.
    """

    epochs: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    low_rank: LowRank | None = None
    extrapolate: Annotated[float, Field(gt=0)] | None = None

    def training(self, first: Training) -> Training:
        """`first`, the training from initial weights, with what differs."""
        overrides = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        return first.model_copy(update={key: value for key, value in overrides.items() if value is not None})


class Evaluation(Settings):
    """Fresh samples of a fixed size: `samples` continuations of `prompt_tokens` of held-out text, of records answers.

    With `first_model` the model of generation 0 scores the samples of every generation, as in Shumailov et al. 2024;
    its weights are then kept. With `language` the panel of English (`metrics.language`) is measured on the samples and
    on as many words of held-out text.

    Attributes:
        new_tokens: tokens of each sample after its prompt.
        batch: sequences that are generated or scored at a time.
    """

    samples: Positive = 200
    prompt_tokens: Positive = 8
    new_tokens: Positive = 64
    batch: Positive = 256
    first_model: bool = False
    language: bool = False


DType = Literal["auto", "float32", "bfloat16"]


class DTypes(Settings):
    """The number format of each phase; a single word stands for all three.

    `auto` is bfloat16 where it is native, on a CPU only to train and score a network of 10 million weights or more.

    Attributes:
        train: of training.
        score: of likelihoods and questions.
        decode: of generation.
    """

    train: DType = "auto"
    score: DType = "auto"
    decode: DType = "auto"

    @model_validator(mode="before")
    @classmethod
    def _one_word_for_all(cls, value: Any) -> Any:
        return dict.fromkeys(("train", "score", "decode"), value) if isinstance(value, str) else value


AnyModel = Annotated[Pretrained | Scratch, Field(discriminator="name")]


class LanguageArm(ArmConfig):
    """The configuration that arms of one or several language models share.

    Attributes:
        data: the real text, its questions, and external models that edit or write it.
        init_from_previous: start each generation from the last one's weights, else from new ones, or those of the
            pretrained model.
        loss: the training loss; without one, cross-entropy.
    """

    extra: ClassVar[str] = "hf"
    modules: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers", "accelerate", "tokenizers")
    uses_gpu: ClassVar[bool] = True
    selects: ClassVar[bool] = True
    data: AnyCorpus
    tokenizer: Tokenizer = Tokenizer()
    init_from_previous: bool = True
    loss: AnyLoss = CrossEntropy()
    training: Training = Training()
    finetune: Finetune = Finetune()
    generation: Generation = Generation()
    evaluation: Evaluation = Evaluation()
    dtype: DTypes = DTypes()

    @property
    def later_keys(self) -> frozenset[str]:
        """As those of any arm, and what only a model with a predecessor needs."""
        return super().later_keys | {"init_from_previous", "finetune"}

    @property
    def joined(self) -> bool:
        """Whether documents are one text, which is generated and scored in windows."""
        return isinstance(self.generation.form, WindowPrompts)

    @property
    def answers(self) -> bool:
        """Whether documents are records, whose targets are only the tokens behind the prompt."""
        return isinstance(self.data, TextCorpus) and self.data.prompt_field is not None

    @model_validator(mode="after")
    def _check_external_data(self) -> Self:
        if not isinstance(self.data, TextCorpus):
            return self
        if self.data.external is not None and not isinstance(self.regime, Replace):
            raise ValueError(
                "data.external_edit and data.external_text replace all real text, but the regime "
                f"{self.regime.name!r} trains on real text. Set regime.name: replace"
            )
        if self.answers and self.generations > 1:
            raise ValueError("data.prompt_field is for one generation: no model generates records. Set generations: 1")
        return self

    @model_validator(mode="after")
    def _check_texts(self) -> Self:
        if self.joined and self.answers:
            raise ValueError("windows join records into one text. Set generation.form.name=documents")
        if isinstance(self.generation.decoder, MatchedTemperature) and isinstance(self.regime, Regenerate):
            raise ValueError(
                "generation.decoder: 'matched' compares with the text that a model was trained on, which arrives in "
                f"parts in the regime {self.regime.name}. Use another decoder, or another regime"
            )
        return self

    @model_validator(mode="after")
    def _check_chat_template(self) -> Self:
        if self.tokenizer.chat_template and not self.answers:
            raise ValueError(
                "tokenizer.chat_template is for records of a prompt and a text. Set data.prompt_field, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.tokenizer.start_before == "block" and (not self.joined or self.regime.name == "edit"):
            raise ValueError(
                "tokenizer.start_before: block is for documents joined into one text, and the regime edit scores each "
                "by itself. Set generation.form.name: windows with another regime, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_finetune(self) -> Self:
        if not self.init_from_previous and self.finetune != Finetune():
            raise ValueError(
                "finetune has no effect where each generation starts from initial weights. Set init_from_previous: true"
            )
        return self

    @model_validator(mode="after")
    def _check_verifier(self) -> Self:
        if isinstance(self.regime, SelectRegime) and self.regime.by.name == "verifier" and self.data.name != "world":
            raise ValueError(
                "regime.by 'verifier' knows the truth of the embedded world, but not of a text file. Set "
                "data.name: world, or use another selector"
            )
        return self

    @model_validator(mode="after")
    def _check_calibration(self) -> Self:
        if getattr(self.loss, "threshold", None) != "auto":
            return self
        if isinstance(self.data, InterleavedCorpus):
            raise ValueError(
                "loss.threshold 'auto' needs calibration text, but data 'interleaved' has none. Give a number"
            )
        if self.data.calibration is None:
            raise ValueError(
                "loss.threshold 'auto' needs real text that no arm trains on. Set data.calibration, a share of "
                "the documents such as 0.1, for all arms"
            )
        return self


class CausalLMArm(LanguageArm):
    """An arm whose learner is a Hugging Face causal language model.

    Attributes:
        model: a new network of a given shape, or a pretrained one.
    """

    builder: ClassVar[str] = "causal_lm.learner:build"
    edits: ClassVar[bool] = True
    rephrases: ClassVar[bool] = True
    replays: ClassVar[bool] = True
    learner: Literal["causal_lm"]
    model: AnyModel
