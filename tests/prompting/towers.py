"""Small models of other families than CLIP, with random weights, as folders in open_clip's format."""

import json
import sys
from types import ModuleType, SimpleNamespace

import open_clip
import pytest
import torch

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
SMALL = {"width": 64, "heads": 2, "layers": 2}
SIGLIP_LIKE = {
    "context_length": 16, "vocab_size": 400, "hf_tokenizer_name": "words", "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"}, **SMALL,
}  # fmt: skip
FAMILIES = {
    "SigLIP": {"custom_text": True, "init_logit_bias": -10, "text_cfg": SIGLIP_LIKE},
    "CLIPA": {"text_cfg": {"context_length": 16, "vocab_size": 400, "hf_tokenizer_name": "words", "no_causal_mask": True,
                           "tokenizer_kwargs": {"strip_sep_token": True}, "pool_type": "last", **SMALL}},
    "MobileCLIP-S": {"custom_text": True, "text_cfg": {"no_causal_mask": True, **SMALL}},
    "CoCa": {"custom_text": True, "text_cfg": {"context_length": 20, "embed_cls": True, "output_tokens": True, **SMALL},
             "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
             "multimodal_cfg": {"context_length": 20, "vocab_size": 49408, "attn_pooler_heads": 2, **SMALL}},
}  # fmt: skip


class Words:
    """Stands for a Hugging Face tokenizer: a word or a full stop is a token, and special tokens stand around them."""

    def __init__(self, entries=400, before=(), behind=(1,), pad=1):
        self.entries, self.before, self.behind, self.pad = entries, before, behind, pad
        self.pad_token_id, self.sep_token_id, self.eos_token_id = pad, behind[-1], behind[-1]
        self.bos_token_id = self.cls_token_id = before[0] if before else None

    def __len__(self):
        return self.entries

    def __call__(self, texts, add_special_tokens=True, max_length=0, padding="", **_):
        word = lambda w: 3 + sum(map(ord, w)) % (self.entries - 3)  # noqa: E731
        rows = [[word(w) for w in text.replace(".", " .").split()] for text in texts]
        rows = [[*self.before, *row, *self.behind] for row in rows] if add_special_tokens else rows
        if padding:
            return SimpleNamespace(input_ids=torch.tensor([row + [self.pad] * (max_length - len(row)) for row in rows]))
        return SimpleNamespace(input_ids=rows)

    batch_encode_plus = __call__  # as open_clip 3.0 calls it


def stand_in(monkeypatch, make):
    """Put a stand-in for the package transformers in place, whose tokenizers are ``make(name)``."""
    from prompting.tokens import _own_tokenizer

    module = ModuleType("transformers")
    module.AutoTokenizer = SimpleNamespace(from_pretrained=lambda name, **_: make(str(name)))
    monkeypatch.setitem(sys.modules, "transformers", module)
    _own_tokenizer.cache_clear()


def folder_of(family, folder):
    """The model's folder, and open_clip's model of it."""
    config = {"embed_dim": 32, "vision_cfg": VISION, **FAMILIES[family]}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # open_clip leaves some as the memory was
            torch.nn.init.normal_(parameter, std=0.1)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return str(folder), model


def hugging_face_folder(root):
    """As ``folder_of``, for a RoBERTa with a tokenizer of a few words; skips a test where transformers isn't installed."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    own = "a photo of cat red fox . art the bell apple dog flap electric fan in game texture"
    names = ["<s>", "<pad>", "</s>", "<unk>", *own.split()]
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(root / "files")
    transformers.RobertaConfig(
        vocab_size=len(names), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=100,
    ).save_pretrained(root / "text")  # fmt: skip
    FAMILIES["RoBERTa"] = {"text_cfg": {"hf_model_name": str(root / "text"), "hf_tokenizer_name": "here", "context_length": 20,
                                        "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}}  # fmt: skip
    try:
        path, model = folder_of("RoBERTa", root / "model")
    finally:
        del FAMILIES["RoBERTa"]
    for file in (root / "files").iterdir():
        file.rename(root / "model" / file.name)
    return path, model
