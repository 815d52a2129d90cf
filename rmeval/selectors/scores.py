"""Rewards of pairs as arrays, by one SQL join."""

import numpy as np

from rmeval.models import Checkpoint
from rmeval.sources import CHUNK, PairSource, with_rewards
from workers.data.schema import ScoredPairs


def scored_pairs(source: PairSource, checkpoint: Checkpoint) -> ScoredPairs:
    """Rewards of the decided pairs that the checkpoint has scored; ties and unscored pairs are counted."""
    rows = with_rewards(source.decided(), checkpoint).values_list(
        "pk", "verdict", "reward_a", "reward_b", "example__prompt_hash", "example__meta"
    )
    pair_ids, prompt_keys, metas = [], [], []
    chosen, rejected = [], []
    for pk, verdict, reward_a, reward_b, prompt_hash, meta in rows.iterator(chunk_size=CHUNK):
        pair_ids.append(f"{source.kind}-{pk}")
        prompt_keys.append(bytes(prompt_hash).hex())
        metas.append(meta)
        chosen.append(reward_a if verdict == "a" else reward_b)
        rejected.append(reward_b if verdict == "a" else reward_a)
    n_decided = source.decided().count()
    return ScoredPairs(
        reward_chosen=np.array(chosen, dtype=np.float64),
        reward_rejected=np.array(rejected, dtype=np.float64),
        pair_ids=pair_ids,
        prompt_keys=prompt_keys,
        meta=metas,
        n_tie=source.pairs().count() - n_decided,
        n_unscored=n_decided - len(chosen),
    )
