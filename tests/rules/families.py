"""Small tokenizers of five families, trained on text made here, and documents with what makes tokenizers stumble."""

import json
import random
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_WORDS = " ".join(
    (
        "the a of and to in is was for on that with as by at from it his her their once upon time little girl",
        "boy house garden river mountain found lost played walking running jumped quickly slowly happy sad",
        "very because before after when where while 2024 17 3.14 naïve café Straße Ærøskøbing déjà vu fiancée",
        "coöperate señor Ðuro ﬁnal ½ x² Å 日本 東京 漢字 かな 中文 文字 привет мир слово Ελλάδα שלום",
        "नमस्ते 😀 🎉 👩‍🚀 🇫🇷",
        "don't it's we'll I'm THE And HTTP Tokyo",
    )
).split()
_MARKS = [" "] * 5 + [", ", ". ", "\n", "\n\n", "  ", " - ", "; ", "? ", "! ", "\t", "'s ", ' "', '" ']
_CODE = "def f(x):\n    if x > 1:\n        return x * 2\n    return [y for y in range(10)]\n"
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Not in the training text, so these come as bytes, as unknown or in pieces.
_RARE = ["Ⅷ", "ﷺ", "𝕏", "e\u0301", "ж\u0301", "㌀", "🧑🏽\u200d💻", "\u200b", "\u00a0", "\ufeff", "ǅ"]
_RARE += ["\ufffd", "\x07", "<s>", "[added]"]


def document(seed: int, words: int = 60, rare: float = 0.0) -> str:
    """A text of words and marks, sometimes with code; the same for the same seed."""
    source = random.Random(seed)
    text = "".join(
        source.choice(_RARE if source.random() < rare else _WORDS) + source.choice(_MARKS) for _ in range(words)
    )
    return text + "\n" + _CODE if seed % 3 == 0 else text.strip()


DOCUMENTS = [document(seed) for seed in range(200)]


def _byte_bpe(pattern: str | None, *, trimmed: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, whole])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        DOCUMENTS,
        trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def _spm_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    # Merges learned within words, as in a real vocabulary, that are then free to cross into the next.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    # Rare characters are left to the bytes, as in a real vocabulary.
    tokenizer.train_from_iterator(
        DOCUMENTS,
        trainers.BpeTrainer(
            vocab_size=1000, special_tokens=SPECIAL + byte_pieces, limit_alphabet=110, show_progress=False
        ),
    )
    # As in a converted SentencePiece model, the bytes are pieces of the vocabulary and no special tokens.
    tree = json.loads(tokenizer.to_str())
    tree["pre_tokenizer"] = None
    tree["added_tokens"] = [token for token in tree["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = Tokenizer.from_str(json.dumps(tree))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        DOCUMENTS,
        trainers.UnigramTrainer(vocab_size=800, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False),
    )
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        DOCUMENTS, trainers.WordPieceTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False)
    )
    return tokenizer


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_tokens([AddedToken("[added]", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


TRAIN = {
    "gpt2": lambda: _byte_bpe(None, trimmed=False),
    "gpt2-trimmed": lambda: _byte_bpe(None, trimmed=True),
    "llama3": lambda: _byte_bpe(LLAMA3, trimmed=False),
    "spm": _spm_bpe,
    "unigram": _unigram,
    "wordpiece": _word_piece,
}


FAMILIES = tuple(TRAIN)
# Of these, text -> ids -> text loses nothing.
LOSSLESS = ("gpt2", "gpt2-trimmed", "llama3", "spm")


@cache
def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the family, trained once."""
    return _fast(TRAIN[family]())
