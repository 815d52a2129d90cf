"""Random tiny models with a tokenizer made in code: the real code paths in milliseconds, nothing downloaded."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

SPECIALS = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
WIDTH, LAYERS, HEADS, POSITIONS = 32, 2, 4, 256
TINY_NAMES = ("tiny-encoder", "tiny-causal")
TINY_LANGUAGE_MODELS = ("tiny-causal", "tiny-causal-tied")


def tiny_tokenizer(kind: str) -> Any:
    """One token a byte, so that any text in any script has ids. The encoder gets BERT's specials, causal only EOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS.values(), *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIALS["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    named = SPECIALS
    if kind == "tiny-causal":
        named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    else:
        ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
        inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=inner, model_max_length=POSITIONS, **named)


def tiny_backbone(kind: str, *, seed: int = 0) -> Any:
    """BERT or Llama of two layers of width 32, its weights always the same for one seed."""
    n_tokens = len(SPECIALS) + 256
    shape: dict[str, Any] = {
        "vocab_size": n_tokens,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "tiny-causal":
            config = LlamaConfig(**shape, num_key_value_heads=HEADS // 2, eos_token_id=2, bos_token_id=None)
            return LlamaModel(config)
        return BertModel(BertConfig(**shape), add_pooling_layer=False)


def tiny_causal_lm(*, is_tied: bool, seed: int = 0, width: int = WIDTH, layers: int = LAYERS) -> Any:
    """A random byte-level Llama with its language-model head, which shares the embedding's weights where tied."""
    config = LlamaConfig(
        vocab_size=len(SPECIALS) + 256,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        intermediate_size=2 * width,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
        tie_word_embeddings=is_tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
