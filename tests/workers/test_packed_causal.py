"""The packed forward of causal models: the numbers of transformers' own forward, a shared prompt computed once."""

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from workers.data.collate import prompt_batches
from workers.data.render import Encoded
from workers.nn.adapters import add_adapters
from workers.nn.backbone import described
from workers.nn.heads import ScalarHead
from workers.nn.likelihood_net import LikelihoodNet
from workers.nn.packed_causal import PackedCausal, is_packable_causal, lay_out, prompt_key
from workers.nn.reward_net import RewardNet
from workers.nn.scoring import batches_for, net_rewards
from workers.nn.tiny import tiny_tokenizer

SHAPE = {
    "vocab_size": 261,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama": lambda: LlamaModel(LlamaConfig(**SHAPE)),
    "llama, bias and scaled rotation": lambda: LlamaModel(
        LlamaConfig(
            **SHAPE,
            attention_bias=True,
            rope_parameters={**LLAMA3, "rope_theta": 1e4, "original_max_position_embeddings": 128},
        )
    ),
    "qwen2": lambda: Qwen2Model(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3Model(Qwen3Config(**SHAPE, head_dim=12)),
    "mistral": lambda: MistralModel(MistralConfig(**SHAPE, sliding_window=None)),
}


def make_net(kind: str = "llama", pooling="last") -> RewardNet:
    torch.manual_seed(0)
    model = MODELS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3) if parameter.dim() > 1 else parameter.add_(torch.randn_like(parameter) * 0.1)
    head = ScalarHead(32)
    torch.nn.init.normal_(head.weight, std=0.5)
    return RewardNet(described(model, tiny_tokenizer("tiny-causal")), pooling, head=head).eval()


def make_items(seed: int = 0, n_prompts: int = 6) -> list[Encoded]:
    """Several responses to some prompts, one to others, one without a prompt, one that is all prompt but a token."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(n_prompts):
        prompt = rng.integers(5, 261, rng.integers(1, 60))
        for _ in range(1 + number % 4):
            response = rng.integers(5, 261, rng.integers(1, 40))
            items.append(Encoded(np.concatenate([prompt, response]).astype(np.int32), len(response)))
    alone = rng.integers(5, 261, 9).astype(np.int32)
    items += [Encoded(alone, 9), Encoded(alone.copy(), 9), Encoded(alone, 1)]
    return [items[i] for i in rng.permutation(len(items))]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pooling", ["last", "first", "mean", "response_mean"])
def test_rewards_are_those_of_the_padded_forward(kind, pooling) -> None:
    net, items = make_net(kind, pooling), make_items()
    with torch.inference_mode():
        assert net.shares_prompts()
        alone = torch.cat([net.outputs_of(net._padded([item])) for item in items])
        packed = net(items)
    assert alone.std() > 0.1
    assert (alone - packed).abs().max() < 1e-5


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pooling", ["last", "response_mean"])
@pytest.mark.parametrize("has_adapters", [False, True])
def test_gradients_are_those_of_the_padded_forward(kind, pooling, has_adapters) -> None:
    net, items = make_net(kind, pooling), make_items()
    if has_adapters:
        add_adapters(net, rank=2, alpha=None)
        for name, parameter in net.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    net.train()
    assert net.is_packed()
    found = gradients(net, lambda: net(items))
    expected = gradients(net, lambda: torch.cat([net.outputs_of(net._padded([item])) for item in items]))
    assert found.keys() == expected.keys()
    assert len(found) > 8
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-5 * max(1.0, float(value.abs().max())), name


def gradients(net: RewardNet, forward) -> dict[str, torch.Tensor]:
    net.zero_grad()
    forward().square().sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_likelihoods_are_those_of_the_padded_forward_with_their_gradients() -> None:
    torch.manual_seed(0)
    backbone = described(MODELS["qwen2"](), tiny_tokenizer("tiny-causal"))
    net = LikelihoodNet(backbone, beta=0.7).train()
    items = [item for item in make_items() if len(item) > item.n_response]
    assert net.is_packed()
    found = gradients(net, lambda: net(items))
    packed = net(items)
    net.token_rewards = lambda batch: LikelihoodNet.token_rewards(net, batch, side="left")
    expected = gradients(net, lambda: net(items))
    assert (packed - net(items)).abs().max() < 1e-4
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-5 * max(1.0, float(value.abs().max())), name


def test_states_are_those_of_the_padded_forward() -> None:
    net, items = make_net(), make_items()
    with torch.inference_mode():
        for found, item in zip(net.states(items), items, strict=True):
            hidden, _ = net._hidden([item])
            assert found.shape == (len(item), 32)
            assert (found - hidden[0]).abs().max() < 1e-5


def test_a_shared_prompt_stands_in_the_row_once() -> None:
    prompt, n = np.arange(5, 25), 4
    items = [Encoded(np.concatenate([prompt, [30 + i, 40]]).astype(np.int32), 2) for i in range(n)]
    assert len(lay_out(items).ids) == 20 + 2 * n
    assert len({prompt_key(item) for item in items}) == 1
    cut = Encoded(items[0].ids[3:], 2, n_prompt_dropped=3)  # its prompt lost its start: another past, nothing to share
    assert len(lay_out([items[0], cut]).ids) == 22 + 19


def test_a_response_without_a_token_is_read_at_the_end_of_its_prompt() -> None:
    """A chat template that closes no turn leaves nothing of an empty response."""
    net, prompt = make_net(), np.arange(5, 25).astype(np.int32)
    told = Encoded(np.concatenate([prompt, [30, 31]]).astype(np.int32), 2)
    items = [told, Encoded(prompt, 0), Encoded(prompt, 0)]
    with torch.inference_mode():
        alone = torch.cat([net.outputs_of(net._padded([item])) for item in items])
        assert (alone - net(items)).abs().max() < 1e-5
    assert alone[0] != alone[1]


def test_other_activations_are_left_to_transformers() -> None:
    net = make_net()
    assert is_packable_causal(net.backbone)
    assert not is_packable_causal(LlamaModel(LlamaConfig(**SHAPE, hidden_act="gelu")))


def test_a_model_in_double_precision_stays_in_it() -> None:
    net, items = make_net().double(), make_items()
    with torch.inference_mode():
        found = net.pooled(items)
        assert found.dtype == torch.float64
        assert (found - torch.cat([net._padded([item]) for item in items])).abs().max() < 1e-12


def test_batches_and_order_change_no_reward() -> None:
    net, items = make_net(), make_items(1, 12)
    with torch.inference_mode():
        expected = torch.cat([net.outputs_of(net._padded([item])) for item in items]).numpy()
    order = np.random.default_rng(0).permutation(len(items))
    for budget in (1, 64, 100_000):
        assert np.abs(net_rewards(net, items, budget) - expected).max() < 1e-5
        turned = net_rewards(net, [items[i] for i in order], budget)
        assert np.abs(turned - expected[order]).max() < 1e-5
    with torch.inference_mode():
        found = np.concatenate(list(batches_for(net, items, 200)))
    assert sorted(found.tolist()) == list(range(len(items)))


def test_batches_keep_to_their_budget_and_a_prompt_together() -> None:
    rng = np.random.default_rng(0)
    prompts = [(bytes([k]), 50) for k in range(20) for _ in range(5)]
    lengths = [50 + int(rng.integers(1, 50)) for _ in prompts]
    batches = list(prompt_batches(lengths, prompts, 400))
    assert sorted(int(i) for batch in batches for i in batch) == list(range(100))
    for batch in batches:
        unique = {prompts[i][0] for i in batch}
        assert 50 * len(unique) + sum(lengths[i] - 50 for i in batch) <= 400
    n_prompts_read = sum(len({prompts[i][0] for i in batch}) for batch in batches)
    assert n_prompts_read < 50


def test_what_cannot_be_packed_is_not() -> None:
    dropping = LlamaModel(LlamaConfig(**SHAPE, attention_dropout=0.1))
    assert not is_packable_causal(dropping.train())
    assert is_packable_causal(dropping.eval())
    checkpointing = MODELS["llama"]().train()
    assert is_packable_causal(checkpointing)
    checkpointing.activation_checkpointing_enable()
    assert not is_packable_causal(checkpointing)
    assert not is_packable_causal(MistralModel(MistralConfig(**SHAPE, sliding_window=16)).eval())
    sliding = Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=16, max_window_layers=1)
    assert not is_packable_causal(Qwen2Model(sliding).eval())
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert not is_packable_causal(LlamaModel(LlamaConfig(**SHAPE, rope_parameters=dynamic)).eval())


def test_bf16_stays_close() -> None:
    net, items = make_net(), make_items()
    net.dtype = "bf16"
    with torch.inference_mode():
        packed = net(items)
        net.dtype = "float32"
        exact = net(items)
    assert torch.isfinite(packed).all()
    assert (packed - exact).abs().mean() < 0.2 * exact.std()


def test_a_sign_of_life_before_every_layer() -> None:
    ticks: list[int] = []
    net = make_net()
    with torch.inference_mode():
        PackedCausal(net.backbone).pooled(make_items(), "last", lambda: ticks.append(1))
    assert len(ticks) == 3
