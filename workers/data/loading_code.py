"""Python that opens an exported reward model and gives a response its reward, with nothing left to fill in.

Written for one checkpoint: special tokens and lengths stand in it as numbers, because what a tokenizer puts around a
text by itself is not always what the model was trained on.
"""

from workers.data.render import Renderer

HEAD = """import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

"""
BY_TEMPLATE = """def texts(prompt, response):
    whole = tokenizer.apply_chat_template([*prompt, *response], tokenize=False)
    before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    n = next((i for i, (a, b) in enumerate(zip(before, whole)) if a != b), min(len(before), len(whole)))
    return whole[:n], whole[n:]
"""
BY_LABELS = """def texts(prompt, response):
    before = "".join(f"{m['role']}:\\n{m['content']}\\n\\n" for m in prompt)
    later = "".join(f"\\n\\n{m['role']}:\\n{m['content']}" for m in response[1:])
    return f"{before}{response[0]['role']}:\\n", response[0]["content"] + later
"""
TAIL = """

def encode(prompt, response):  # the oldest part of a prompt that is too long goes
    before, after = (
        tokenizer(text, add_special_tokens=False, split_special_tokens=SPLIT).input_ids
        for text in texts(prompt, response)
    )
    after = after[:MOST]
    keep = int(before[:1] == [tokenizer.bos_token_id])
    before = before[:keep] + before[keep:][max(0, len(before) + len(after) - MOST) :]
    return [*START, *before, *BETWEEN, *after, *END]


def reward(prompt, response):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([encode(prompt, response)])).logits[0, 0].item()CONSTANT


print(reward([{"role": "user", "content": "Can ducks fly?"}], [{"role": "assistant", "content": "Most can."}]))
"""


def loading_code(renderer: Renderer, *, constant: float) -> str:
    """The code for a checkpoint that `renderer` encodes for; `folder` is the one name that must be there."""
    special = {"START": renderer.start, "BETWEEN": renderer.between, "END": renderer.end}
    most = renderer.max_length - sum(len(ids) for ids in special.values())
    filled = TAIL.replace("SPLIT", str(not renderer.uses_template)).replace("MOST", str(most))
    filled = filled.replace("CONSTANT", f" + {constant!r}" if constant else "")
    for name, ids in special.items():
        filled = filled.replace(f"*{name}", ", ".join(map(str, ids)))
    filled = filled.replace("[, ", "[").replace(", , ", ", ").replace(", ]", "]")
    return HEAD + "\n" + (BY_TEMPLATE if renderer.uses_template else BY_LABELS) + filled
