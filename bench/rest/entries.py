"""The table: which family on which data, with which settings. Settings were chosen on training prompts alone."""

from bench.rest import rows
from bench.rest.harness import Entry, Stage

MOST_BYTES = 150
READS_128, READS_256 = {"max_length": 128}, {"max_length": 256}
#: A head on features that are read once: many cheap epochs, of which validation keeps one.
HEAD = {"freeze_backbone": True, "learning_rate": 1e-3, "head_learning_rate": 1e-3, "batch_pairs": 32, "epochs": 20}
ALL = {"validation_share": 0.0}
#: Usual for preference training of small pretrained models, taken as they are.
PRETRAINED = {"epochs": 2, "batch_pairs": 16, "learning_rate": 2e-5}
FROM_SCRATCH = {"epochs": 2, "batch_pairs": 16, "learning_rate": 1e-3}

ENTRIES: dict[str, Entry] = {
    "toolrm": Entry(
        "ToolRM's HH",
        rows.toolrm,
        [
            Stage("twin_head", "twin_head", READS_128, HEAD),
            Stage("frozen", "scalar_head", READS_128, HEAD),
            Stage("bayesian_ensemble", "bayesian_ensemble", READS_128, HEAD, start="frozen", tells=["finished"]),
            Stage("scalar_head", "scalar_head", READS_128, {"epochs": 2}),
            Stage("embedding_linear", "embedding_linear", READS_128, ALL, tells=["head.l2"]),
            Stage("ensemble", "ensemble", members=["embedding_linear", "scalar_head"]),
        ],
    ),
    "ultrafeedback": Entry(
        "UltraFeedback scores, MT-Bench grades",
        rows.rated,
        [
            Stage(
                "multi_attribute",
                "multi_attribute",
                {**READS_128, "attributes": rows.ATTRIBUTES, "weights": {rows.OVERALL: 1.0}},
                {**HEAD, "objective_config": {"standardise": True}},
                tells=["validation_best"],
            ),
            Stage(
                "gated",
                "gated",
                {**READS_128, "attributes": rows.ATTRIBUTES, "gate_width": 128, "gate_layers": 1},
                {**HEAD, "weight_decay": 0.0, "epochs": 20},
                rows=rows.overall_pairs,
                start="multi_attribute",
                tells=["head"],
            ),
            Stage("embedding_linear", "embedding_linear", READS_128, ALL, rows=rows.overall_pairs),
        ],
        test=rows.overall_pairs,
    ),
    "ultrafeedback-pairs": Entry(
        "UltraFeedback", rows.ultrafeedback, [Stage("scalar_head", "scalar_head", READS_256, {"epochs": 2})]
    ),
    "tulu": Entry(
        "Tulu human evaluation",
        rows.tulu,
        [Stage("mixture", "mixture", {**READS_128, "n_heads": 3}, {**HEAD, "rater_key": "rater"}, tells=["finished"])],
    ),
    "tulu-people": Entry(
        "Tulu, evaluators not trained on",
        rows.tulu,
        [
            Stage("scalar_head, frozen", "scalar_head", READS_128, {**HEAD, "rater_key": "rater"}),
            Stage(
                "latent_user",
                "latent_user",
                {**READS_128, "latent": 8, "hidden": 64},
                {**HEAD, "learning_rate": 1e-4, "weight_decay": 0.1, "rater_key": "rater"},
                tells=["finished"],
            ),
        ],
        by="rater",
        test=lambda found: rows.with_context(found, n=6),
        share=0.3,
    ),
    "imageinwords": Entry(
        "ImageInWords, five axes",
        rows.image_axes,
        [Stage("mixture", "mixture", {**READS_256, "n_heads": 3}, {**HEAD, "rater_key": "rater"}, tells=["finished"])],
    ),
    "prmbench": Entry(
        "PRMBench, original against wrong",
        rows.prmbench,
        [
            Stage(
                "scalar_head, outcome_bce",
                "scalar_head",
                {**READS_256, "head_depth": 2},
                {**HEAD, "objective": "outcome_bce"},
            ),
            Stage("process", "process", READS_256, {"epochs": 2, "learning_rate": 1e-4}),
        ],
    ),
    "references": Entry(
        "MR-GSM8K, answers exchanged",
        rows.references,
        [Stage("reference_verifier", "reference_verifier", {"max_length": 64}, {"epochs": 4, "learning_rate": 2e-4})],
    ),
    "likelihood": Entry(
        f"HH single turns, at most {MOST_BYTES} bytes",
        lambda: rows.short_hh(MOST_BYTES),
        [
            Stage("autoregressive", "autoregressive", READS_256, FROM_SCRATCH),
            Stage("implicit", "implicit", READS_256, FROM_SCRATCH),
        ],
        is_causal=True,
    ),
    "pretrained": Entry(
        "ToolRM's HH",
        rows.toolrm,
        [
            Stage("scalar_head, frozen", "scalar_head", READS_128, HEAD),
            Stage("embedding_linear", "embedding_linear", READS_128, ALL, tells=["head.l2"]),
            Stage("implicit", "implicit", READS_256, PRETRAINED),
            Stage("autoregressive", "autoregressive", READS_256, PRETRAINED),
            Stage("scalar_head, LoRA", "scalar_head", READS_256, {**PRETRAINED, "lora_rank": 8, "learning_rate": 2e-4}),
            Stage("goal_conditioned", "goal_conditioned", READS_256, PRETRAINED),
        ],
        is_causal=True,
    ),
    "goal": Entry(
        f"HH single turns, at most {MOST_BYTES} bytes",
        lambda: rows.short_hh(MOST_BYTES),
        [Stage("goal_conditioned", "goal_conditioned", READS_256, {"epochs": 2, "batch_pairs": 16})],
        is_causal=True,
    ),
    "mt-bench": Entry(
        "MT-Bench grades, best answer as reference",
        rows.ranked,
        [
            Stage(
                "policy_discriminator",
                "policy_discriminator",
                {"max_length": 512, "most_answer_tokens": 128},
                {**HEAD, "objective_config": {"centre_coefficient": 0.0}},
            )
        ],
        is_causal=True,
    ),
}
