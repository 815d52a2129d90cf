"""The likelihood of a response: which tokens count, what does not change it, and what a reference does."""

import copy

import numpy as np
import pytest
import torch
import transformers

from tests.workers.making import make_pairs, turn
from workers.data.render import Encoded, Renderer
from workers.errors import JobError
from workers.nn import likelihood_net
from workers.nn.backbone import load_backbone
from workers.nn.causal_lm import load_causal_lm, take_apart
from workers.nn.likelihood_net import LikelihoodNet, token_texts
from workers.nn.scoring import net_rewards
from workers.nn.tiny import TINY_LANGUAGE_MODELS, tiny_causal_lm, tiny_tokenizer


def encoded_items(n: int = 6) -> list[Encoded]:
    renderer = Renderer(tiny_tokenizer("tiny-causal"), 200)
    return renderer.encode([(p.prompt, p.response_a) for p in make_pairs(n)])


def loud(model):
    """Weights large enough that every mistake shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else None
    return model


def make_net(name: str = "tiny-causal", **options) -> LikelihoodNet:
    found = load_causal_lm(name)
    loud(found.model)
    return LikelihoodNet(found, **options).eval()


def by_hand(lm, item: Encoded) -> float:
    """Sum of log pi over the response, one token after the other, by the whole model of transformers."""
    with torch.no_grad():
        logits = lm(input_ids=torch.from_numpy(item.ids).long()[None]).logits[0].double()
    logs = logits.log_softmax(dim=-1)
    return sum(logs[i - 1, item.ids[i]].item() for i in range(len(item) - item.n_response, len(item)))


@pytest.mark.parametrize("name", TINY_LANGUAGE_MODELS)
def test_the_reward_is_the_direct_sum_over_response_and_end_token(name) -> None:
    lm = loud(tiny_causal_lm(is_tied=name.endswith("-tied")))
    net = LikelihoodNet(take_apart(lm, tiny_tokenizer("tiny-causal"), name)).eval()
    items = encoded_items()
    with torch.no_grad():
        found = net(items).tolist()
    assert found == pytest.approx([by_hand(lm, item) for item in items], abs=1e-4)
    assert hasattr(net.backbone, "lm_head") != name.endswith("-tied")


def test_the_mask_by_hand() -> None:
    """'ab' after a prompt: three tokens count, a, b and the end token; nothing of the prompt does."""
    tokenizer = tiny_tokenizer("tiny-causal")
    (item,) = Renderer(tokenizer, 200).encode([([turn("user", "hello")], [turn("assistant", "ab")])])
    assert item.n_response == 3
    assert tokenizer.convert_ids_to_tokens(item.ids[-3:].tolist()) == ["a", "b", "[SEP]"]
    net = make_net(per_token=True)
    with torch.inference_mode():
        outputs = net([item])
    (told,) = net.head.parts(outputs)
    assert [token["text"] for token in told["tokens"]] == ["a", "b", "[SEP]"]
    assert sum(token["reward"] for token in told["tokens"]) == pytest.approx(net.reward(outputs).item(), abs=1e-5)
    shorter = Encoded(ids=item.ids[:-1], n_response=2)
    without_end = net_rewards(make_net(), [shorter], 512)[0]
    assert net.reward(outputs).item() - without_end == pytest.approx(told["tokens"][2]["reward"], abs=1e-4)


def test_the_batch_and_the_side_of_the_padding_change_nothing() -> None:
    reference = loud(load_causal_lm("tiny-causal-tied").model)
    net = make_net("tiny-causal-tied", reference=loud(reference), beta=0.5)
    items = encoded_items(12)
    alone = [net_rewards(net, [item], 512)[0] for item in items]
    assert np.ptp(alone) > 1
    for budget in (64, 512, 100_000):
        assert net_rewards(net, items, budget) == pytest.approx(alone, abs=1e-4)
    with torch.inference_mode():
        left = [part.sum().item() for part in net.token_rewards(items, side="left")]
    assert left == pytest.approx(alone, abs=1e-4)


def test_left_padding_of_absolute_positions() -> None:
    config = transformers.GPT2Config(vocab_size=261, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = loud(transformers.GPT2LMHeadModel(config)).eval()
    net = LikelihoodNet(take_apart(lm, tiny_tokenizer("tiny-causal"), "gpt2")).eval()
    items = encoded_items(8)
    with torch.inference_mode():
        for side in ("left", "right"):
            found = [part.sum().item() for part in net.token_rewards(items, side=side)]
            assert found == pytest.approx([by_hand(lm, item) for item in items], abs=2e-4), side


def test_with_a_reference_it_is_the_log_ratio_times_beta() -> None:
    policy, reference = loud(tiny_causal_lm(is_tied=False)), loud(tiny_causal_lm(is_tied=False, seed=1))
    backbones = [take_apart(copy.deepcopy(lm), tiny_tokenizer("tiny-causal"), "x") for lm in (policy, reference)]
    net = LikelihoodNet(backbones[0], reference=backbones[1].model, beta=0.3).eval()
    items = encoded_items()
    expected = [0.3 * (by_hand(policy, item) - by_hand(reference, item)) for item in items]
    assert net_rewards(net, items, 512) == pytest.approx(expected, abs=1e-4)
    signs = [np.sign(net_rewards(LikelihoodNet(backbones[0], reference=backbones[1].model, beta=b).eval(), items, 512))
             for b in (0.01, 10.0)]  # fmt: skip
    assert (signs[0] == signs[1]).all()


def test_a_policy_that_is_its_reference_gives_only_zeros() -> None:
    net = make_net(reference=loud(load_causal_lm("tiny-causal").model), dropout=0.1)
    assert net.is_its_reference()
    assert (net_rewards(net.eval(), encoded_items(), 512) == 0).all()
    with torch.no_grad():
        net.backbone.norm.weight += 0.1
    assert not net.is_its_reference()
    net.renew_reference()
    assert net.is_its_reference()


def test_the_reference_has_neither_dropout_nor_gradient() -> None:
    net = make_net(reference=loud(load_causal_lm("tiny-causal").model), dropout=0.3).train()
    assert net.backbone.training
    assert not any(module.training for module in net.reference.modules())
    net(encoded_items(4)).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in net.reference.parameters())
    assert any(p.grad is not None for p in net.backbone.parameters())
    assert net.backbone.lm_head.weight.grad is not None


def test_chunks_of_the_vocabulary_change_neither_value_nor_gradient(monkeypatch) -> None:
    found = []
    for at_once in (2**24, 261 * 5):
        monkeypatch.setattr(likelihood_net, "LOGITS_AT_ONCE", at_once)
        net = make_net()
        rewards = net(encoded_items(6))
        rewards.sum().backward()
        found.append((rewards.detach(), net.backbone.lm_head.weight.grad, net.backbone.embed_tokens.weight.grad))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)


def test_logits_are_made_for_response_tokens_alone(monkeypatch) -> None:
    seen = []
    honest = likelihood_net.token_logits
    monkeypatch.setattr(likelihood_net, "token_logits", lambda m, h: seen.append(len(h)) or honest(m, h))
    items = encoded_items(6)
    net_rewards(make_net(), items, 100_000)
    assert sum(seen) == sum(item.n_response for item in items) < sum(len(item) for item in items)


def test_a_response_without_anything_before_it_is_refused() -> None:
    with pytest.raises(ValueError, match="a token before it"):
        make_net()([Encoded(ids=np.array([5, 6, 7], dtype=np.int32), n_response=3)])


def test_texts_of_tokens_join_to_the_whole() -> None:
    tokenizer = tiny_tokenizer("tiny-causal")
    text = "naïve 日本 🙂 ok"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = token_texts(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == text
    assert found.count("") == len(text.encode()) - len(text)
    broken = token_texts(tokenizer, ids[: len("naïve 日".encode()) - 1])
    assert "".join(broken).startswith("naïve ")


@pytest.mark.parametrize("name", ["minilm", "tiny-encoder"])
def test_an_encoder_has_no_likelihood(name) -> None:
    with pytest.raises(JobError, match="not a causal language model") as caught:
        load_causal_lm(name)
    assert caught.value.hint


def test_an_encoder_in_a_folder_has_no_likelihood(tmp_path) -> None:
    load_backbone("tiny-encoder").model.save_pretrained(tmp_path)
    tiny_tokenizer("tiny-encoder").save_pretrained(tmp_path)
    with pytest.raises(JobError, match="causal language model"):
        load_causal_lm(str(tmp_path))


SHAPE = {"vocab_size": 261, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8, "pad_token_id": 0}  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda: transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SHAPE, final_logit_softcapping=2.0)),
        lambda: transformers.GraniteForCausalLM(transformers.GraniteConfig(**SHAPE, logits_scaling=4.0)),
        lambda: transformers.CohereForCausalLM(transformers.CohereConfig(**SHAPE, logit_scale=0.25)),
        lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SHAPE, tie_word_embeddings=True)),
        lambda: transformers.PhiForCausalLM(
            transformers.PhiConfig(**{k: v for k, v in SHAPE.items() if k != "head_dim"})
        ),
    ],
    ids=["soft cap", "scaling", "scale", "tied", "bias"],
)
def test_architectures_that_make_their_logits_otherwise(make) -> None:
    lm = loud(make()).eval()
    net = LikelihoodNet(take_apart(lm, tiny_tokenizer("tiny-causal"), "x")).eval()
    items = encoded_items(4)
    assert net_rewards(net, items, 512) == pytest.approx([by_hand(lm, item) for item in items], abs=1e-3)


def test_logits_that_are_not_known_are_refused() -> None:
    class Odd(transformers.LlamaForCausalLM):
        def forward(self, *args, **options):
            found = super().forward(*args, **options)
            found.logits = found.logits * 2 + 1
            return found

    lm = loud(Odd(tiny_causal_lm(is_tied=False).config))
    with pytest.raises(JobError, match="not known here"):
        take_apart(lm, tiny_tokenizer("tiny-causal"), "odd")


def test_from_a_folder_as_from_memory(tmp_path) -> None:
    lm = loud(tiny_causal_lm(is_tied=False, seed=3))
    lm.save_pretrained(tmp_path)
    tiny_tokenizer("tiny-causal").save_pretrained(tmp_path)
    net = LikelihoodNet(load_causal_lm(str(tmp_path))).eval()
    items = encoded_items(4)
    assert net_rewards(net, items, 512) == pytest.approx([by_hand(lm, item) for item in items], abs=1e-4)
