"""What a model's configuration may say. Each key is used, is known to change no logit, or must have the one value that llmzip computes.

Whatever else a configuration says is refused: a model that is computed without something it needs compresses worse, and nobody notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmzip.errors import ModelFormatError, quoted


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


HF_USED = names("""
    model_type num_hidden_layers hidden_size num_attention_heads num_key_value_heads head_dim intermediate_size vocab_size
    rope_theta rope_parameters rope_scaling rms_norm_eps tie_word_embeddings bos_token_id eos_token_id
""")
# How a model was trained, how it generates, and what libraries note down.
HF_IGNORED = names("""
    _attn_implementation _attn_implementation_autoset _name_or_path architectures attention_dropout attn_pdrop bad_words_ids
    begin_suppress_tokens cache_implementation chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample
    dtype early_stopping embd_pdrop encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id hidden_dropout id2label initializer_range is_decoder is_llama_config label2id
    length_penalty max_length max_position_embeddings min_length no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type
    remove_invalid_values repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript
    transformers.js_config transformers_version typical_p use_bfloat16 use_cache
""")
HF_FIXED: dict[str, Any] = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "rope_interleaved": False, "partial_rotary_factor": 1.0,
    "use_sliding_window": False,
    "is_encoder_decoder": False, "add_cross_attention": False, "pruned_heads": {},
}  # fmt: skip
HF_ROPE_FIXED: dict[str, Any] = {"partial_rotary_factor": 1.0}
HF_ROPE_LINEAR = frozenset({"rope_type", "type", "rope_theta", "factor"})
HF_ROPE_LLAMA3 = HF_ROPE_LINEAR | {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}

GGUF_USED = names("""
    block_count embedding_length feed_forward_length attention.head_count attention.head_count_kv attention.key_length
    rope.freq_base attention.layer_norm_rms_epsilon attention.value_length rope.dimension_count
""")
GGUF_IGNORED = names("""
    context_length vocab_size rope.scaling.original_context_length rope.scaling.finetuned
""")
GGUF_FIXED: dict[str, Any] = {
    "rope.scaling.type": "none", "rope.scaling.factor": 1.0, "rope.scale_linear": 1.0, "rope.scaling.attn_factor": 1.0,
    "attention.sliding_window": 0, "expert_count": 0, "expert_used_count": 0, "logit_scale": 1.0, "attention.clamp_kqv": 0.0,
    "use_parallel_residual": False, "attention.causal": True, "embedding_scale": 1.0, "residual_scale": 1.0,
}  # fmt: skip
GGUF_TOKENIZER = names("""
    model pre tokens token_type scores merges bos_token_id eos_token_id eot_token_id eom_token_id unknown_token_id
    padding_token_id separator_token_id seperator_token_id cls_token_id mask_token_id prefix_token_id middle_token_id
    suffix_token_id fim_pre_token_id fim_suf_token_id fim_mid_token_id fim_pad_token_id fim_rep_token_id fim_sep_token_id
    add_bos_token add_eos_token add_sep_token add_space_prefix token_type_count eos_token_ids
""")

TOKENIZER_USED = names("""
    model normalizer pre_tokenizer added_tokens
""")
TOKENIZER_IGNORED = names("""
    version truncation padding post_processor decoder
""")  # special tokens are never added
BPE_USED = names("""
    vocab merges ignore_merges
""")
BPE_IGNORED = names("""
    unk_token fuse_unk
""")  # every byte has a token, or becomes a raw byte
BPE_FIXED: dict[str, Any] = {
    "type": "BPE", "byte_fallback": False, "dropout": 0.0, "continuing_subword_prefix": "", "end_of_word_suffix": "",
}  # fmt: skip
UNIGRAM_USED = names("""
    vocab
""")
UNIGRAM_IGNORED = names("""
    unk_id
""")
UNIGRAM_FIXED: dict[str, Any] = {"type": "Unigram", "byte_fallback": True}
# Stages of normalizers. Text is cut into tokens as it is, so that it comes back: only MARK is computed, the others are left out.
MARK: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
BYTE_LEVEL_NORMALIZERS: list[dict[str, Any]] = [{"type": "NFC"}]
SENTENCEPIECE_NORMALIZERS = [*BYTE_LEVEL_NORMALIZERS, MARK, {"type": "Prepend", "prepend": "\u2581"}]
UNIGRAM_NORMALIZERS = [
    *SENTENCEPIECE_NORMALIZERS, {"type": "NFKC"}, {"type": "Precompiled"},
    *({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": c} for c in (" ", "\u2581")),
]  # fmt: skip
METASPACE_IGNORED = names("""
    add_prefix_space prepend_scheme str_rep
""")  # no space is put in front


def check(where: str, found: Mapping[str, Any], used: frozenset[str], ignored: frozenset[str], fixed: Mapping[str, Any]) -> None:
    """Raise ModelFormatError if `found` says anything else than the three kinds of keys allow. A key without a value says nothing."""
    for key, value in found.items():
        if value is None or key in used or key in ignored or (key in fixed and _same(value, fixed[key])):
            continue
        advice = f"; it runs models for which that is {fixed[key]}" if fixed.get(key) is not None else ""
        raise ModelFormatError(f"{where} sets {quoted(key)} to {quoted(value)}, which llmzip does not support{advice}; use another model")


def _same(found: Any, wanted: Any) -> bool:
    number = type(wanted) is float and type(found) in (int, float)
    return bool(found == wanted) and (number or type(found) is type(wanted))
