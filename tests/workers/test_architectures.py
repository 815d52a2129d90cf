"""Backbones of the architectures that people bring: opened, trained, stored, scored, exported, padding aside."""

import json

import numpy as np
import pytest
import torch
import transformers

from tests.workers.making import LocalRun, make_pairs
from tests.workers.test_import_rm import hf_folder
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.nn.backbone import load_backbone, open_backbone
from workers.specs import parse_spec

ENCODERS = {
    "Albert": {"embedding_size": 16},
    "DebertaV2": {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]},
    "Longformer": {"attention_window": 8},
    "MPNet": {},
    "XLMRoberta": {},
}
CAUSAL = {
    "GPT2": {},
    "Gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "Mistral": {"num_key_value_heads": 2},
    "OPT": {"word_embed_proj_dim": 32},
    "Phi3": {},
}
SAME = 1e-4
"""Of the rewards, which are spread by 0.1 and more."""


@pytest.mark.parametrize("kind", [*ENCODERS, *CAUSAL])
def test_it_trains_and_no_batch_changes_a_reward(kind, tmp_path) -> None:
    """MPNet and Longformer know no sdpa, positions of RoBERTa and OPT begin elsewhere, Longformer pads by itself."""
    folder = hf_folder(tmp_path / "model", kind, num_labels=1, **{**ENCODERS, **CAUSAL}[kind])
    run = LocalRun(tmp_path, make_pairs(40), {"backbone": str(folder), "max_length": 96})
    ctx = run.context()
    result = run.train(ctx, max_steps=3, learning_rate=1e-3, dtype="float32")
    assert result["probe_difference"] <= SAME
    family = FAMILIES.get("scalar_head")
    scorer = family.open(parse_spec(family.Config, run.model), ctx.checkpoints[result["checkpoint"]].path)
    items = [(pair.prompt, text) for pair in make_pairs(12) for text in (pair.response_a, pair.response_b)]
    alone = np.array([scorer.score([item]).values[0] for item in items])
    assert np.ptp(alone) > 0.1
    for budget in (100, 400, 100_000):
        scorer.token_budget = budget
        np.testing.assert_allclose(scorer.score(items).values, alone, atol=SAME, rtol=0)


@pytest.mark.parametrize("kind", ["DebertaV2", "MPNet"])
def test_it_leaves_as_a_folder(kind, tmp_path) -> None:
    folder = hf_folder(tmp_path / "model", kind, num_labels=1, **ENCODERS[kind])
    run = LocalRun(tmp_path, make_pairs(40), {"backbone": str(folder), "max_length": 96})
    result = run.train(max_steps=1, dtype="float32")
    ctx = run.context("export")
    job = JOBS.get("export_checkpoint")
    told = job().run(ctx, parse_spec(job.Spec, {"checkpoint": result["checkpoint"]}))
    folder = ctx.work_dir / "artifacts" / told["artifact"]
    probes = json.loads((folder / "probes.json").read_text())
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.inference_mode():
        found = [model(input_ids=torch.tensor([p["input_ids"]])).logits[0, 0].item() for p in probes]
    np.testing.assert_allclose(found, [p["reward"] for p in probes], atol=1e-5)


@pytest.mark.parametrize("place", ["model", "checkpoint"])
def test_a_config_chooses_no_code(place, tmp_path) -> None:
    """A config.json may name a kernel of the hub as its attention, which transformers would fetch and run."""
    folder = hf_folder(tmp_path / place, "Bert", num_labels=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "kernels-community/flash-attn"}))
    opened = load_backbone(str(folder)) if place == "model" else open_backbone(folder)
    assert opened.model.config._attn_implementation == "sdpa"
