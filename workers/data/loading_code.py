"""Python that opens an exported reward model and gives a response its reward, with nothing left to fill in.

Written for one checkpoint: special tokens, lengths and weights stand in it as numbers, because what a tokenizer puts
around a text by itself is not always what the model was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.data.render import Renderer

HEAD = """import math

import torch
from transformers import AutoModelForCLASS, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCLASS.from_pretrained(folder).eval()
"""
TOKENS = """

def tokens(text):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=SPLIT).input_ids

"""
BY_TEMPLATE = """
def texts(prompt, response):
    whole = tokenizer.apply_chat_template([*prompt, *response], tokenize=False)
    before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) if prompt else ""
    n = next((i for i, (a, b) in enumerate(zip(before, whole)) if a != b), min(len(before), len(whole)))
    return whole[:n], whole[n:]
"""
BY_LABELS = """
def texts(prompt, response):
    before = "".join(f"{m['role']}:\\n{m['content']}\\n\\n" for m in prompt)
    later = "".join(f"\\n\\n{m['role']}:\\n{m['content']}" for m in response[1:])
    return f"{before}{response[0]['role']}:\\n", response[0]["content"] + later
"""
VERIFIED = """
def transcript(messages):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\\n\\n{names.get(m['role'], m['role'].title())}: {m['content']}" for m in messages)


def texts(prompt, response, reference):  # question, reference answer and response in tags
    is_one = len(prompt) == 1 and prompt[0]["role"] == "user"
    question = prompt[0]["content"] if is_one else transcript(prompt) + "\\n\\nAssistant: "
    answer = "\\n\\n".join(m["content"] for m in reference)
    before = f"<question>{question}</question>\\n<reference_answer>{answer}</reference_answer>\\n<completion>"
    return before, response[0]["content"] + transcript(response[1:]) + "</completion>"
"""
CUT = """

def cut(before, n):  # the oldest part of a prompt that is too long goes
    keep = int(before[:1] == [tokenizer.bos_token_id])
    return before[:keep] + before[keep:][max(0, len(before) + n - MOST) :]
"""
ENCODE = """

def encode(*item):
    before, after = map(tokens, texts(*item))
    after = after[:MOST]
    return [*START, *cut(before, len(after)), *BETWEEN, *after, *END]


def logits(*item):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([encode(*item)])).logits[0].tolist()
"""
SCALAR = """

def reward(*item):
    return logits(*item)[0] + CONSTANT
"""
RATINGS = """

def ratings(*item):
    return {name: value + constant for (name, constant), value in zip(CONSTANTS.items(), logits(*item))}


def reward(*item):
    told = ratings(*item)
    return sum(weight * told[name] for name, weight in WEIGHTS.items())
"""
COMPARED = """

def encode(prompt, response, reference):  # the prompt once before the reference and once before the response
    prompt, first, second = ("\\n".join(m["content"] for m in part) for part in (prompt, reference, response))
    prompt, first, second = tokens(prompt), tokens(JOINT + first)[:EACH], tokens(JOINT + second)[:EACH]
    prompt = prompt[max(0, len(prompt) - (ROOM - len(first) - len(second)) // 2) :]
    return [*START, *prompt, *first, SEPARATOR, *prompt, *second, REWARD]
"""
STEPS = """

def split(response):
    text = "\\n\\n".join(m["content"] for m in response)
    *pieces, rest = text.split(TAG) if TAG else [*text.splitlines(), ""]
    return [piece.strip() for piece in (*(piece + TAG for piece in pieces), rest) if piece.strip()] or [text]


def encode(prompt, response, steps=None):
    \"\"\"Token ids, and the positions that are read: steps are texts in their order, which make up the response.\"\"\"
    before, after, spans = places(prompt, response, steps or split(response))
    found = tokenizer(after, add_special_tokens=False, split_special_tokens=SPLIT, return_offsets_mapping=True)
    starts, after = [start for start, _ in found.offset_mapping], found.input_ids[:MOST]
    before = cut(tokens(before), len(after))
    ids = [*START, *before, *BETWEEN, *after, *END]
    offset = len(ids) - len(after) - len(END)
    read = []
    for begin, end in spans:
        if sum(start < begin for start in starts) < len(after):
            last = sum(start < end for start in starts) - 1
            read.append(offset + min(max(0, last), max(0, len(after) - 1)))
    return ids, read or [len(ids) - 1]


def probabilities(*item):
    ids, read = encode(*item)
    with torch.inference_mode():
        return (model(input_ids=torch.tensor([ids])).logits[0, read, 0] + CONSTANT).sigmoid().tolist()


def reward(*item):
    p = probabilities(*item)
    return AGGREGATED
"""
PLAIN_PLACES = """

def places(prompt, response, steps):
    before, after = texts(prompt, response)
    spans, cursor = [], 0
    for step in steps:
        begin = after.index(step.strip() or step, cursor)
        cursor = begin + len(step.strip() or step)
        spans.append((begin, cursor))
    return before, after, spans

"""
MARKED_PLACES = """

def places(prompt, response, steps):  # every step is followed by its mark, which is read
    steps = [step.strip().removesuffix(MARK.strip() or MARK).rstrip() + MARK for step in steps]
    steps = [steps[0], *(GAP + step for step in steps[1:])]
    before, after = texts(prompt, [{"role": response[0]["role"], "content": "".join(steps)}])
    ends, begin = [], after.index("".join(steps))
    for step in steps:
        ends.append((begin, begin + len(step)))
        begin += len(step)
    return before, after, ends

"""
TURNED_PLACES = """

def places(prompt, response, steps):  # every step is a turn of the user; what is read stands before the answer to it
    steps = [step.strip() for step in steps]
    is_asked = bool(prompt) and prompt[-1]["role"] == "user"
    *earlier, last = prompt if is_asked else [*prompt, {"content": ""}]
    users = [f"{last['content']} {steps[0]}" if is_asked else steps[0], *steps[1:]]
    turns, ends = list(earlier), []
    for text in users:
        turns.append({"role": "user", "content": text})
        ends.append(len(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)))
        turns.append({"role": "assistant", "content": ANSWER})
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    first = users[0].strip()
    begin = whole.rindex(first, 0, ends[0]) + len(first) - len(steps[0])
    begin -= whole[begin - 1] == " " and is_asked
    return whole[:begin], whole[begin:], [(end - begin, end - begin) for end in ends]

"""
EXAMPLE = """

print(reward([{"role": "user", "content": "Can ducks fly?"}], [{"role": "assistant", "content": "Most can."}]REST))
"""
AGGREGATED = {
    "min": "min(p)",
    "mean": "sum(p) / len(p)",
    "last": "p[-1]",
    "product": "math.prod(p)",
    "sum": "sum(p)",
}


@dataclass(frozen=True)
class Reading:
    """How the reward follows from what the class gives.

    constants: what the class has no place for, by output; weights: of each output in the reward; steps: the settings
    of a process reward model; compared: those of a policy discriminator. Both empty for others. is_verified: whether
    question, reference answer and response are put in tags, as a reference verifier reads them. brings_code: whether
    the class is a file of the folder.
    """

    constants: Mapping[str, float]
    weights: Mapping[str, float]
    steps: Mapping[str, str] = field(default_factory=dict)
    compared: Mapping[str, Any] = field(default_factory=dict)
    is_verified: bool = False
    brings_code: bool = False

    @property
    def needs_reference(self) -> bool:
        return self.is_verified or bool(self.compared)

    @property
    def is_scalar(self) -> bool:
        return dict(self.weights) == {"reward": 1.0}

    @property
    def constant(self) -> float:
        """What all constants add to the reward."""
        return sum(self.weights[name] * value for name, value in self.constants.items())


def loading_code(renderer: Renderer, reading: Reading) -> str:
    """The code for a checkpoint that `renderer` encodes for; `folder` is the one name that must be there."""
    auto = "TokenClassification" if reading.steps else "SequenceClassification"
    by_rendering = BY_TEMPLATE if renderer.uses_template else BY_LABELS
    texts = "" if reading.compared else (VERIFIED if reading.is_verified else by_rendering) + CUT
    rest = ', [{"role": "assistant", "content": "Yes."}]' if reading.needs_reference else ""
    body = _steps(reading) if reading.steps else _sequence(reading)
    head = HEAD if "math." in body else HEAD.removeprefix("import math\n\n")
    if reading.brings_code:  # of the tokenizer too, which transformers chooses by the config
        head = head.replace("(folder)", "(folder, trust_remote_code=True)")
    numbers = "".join(f"{name} = {value!r}\n" for name, value in _numbers(renderer, reading).items())
    return head.replace("CLASS", auto) + "\n" + numbers + TOKENS + texts + body + EXAMPLE.replace("REST", rest)


def _numbers(renderer: Renderer, reading: Reading) -> dict[str, Any]:
    """What the code names in capitals."""
    special = {"START": list(renderer.start), "BETWEEN": list(renderer.between), "END": list(renderer.end)}
    found = {"SPLIT": not renderer.uses_template, "START": special["START"]}
    if reading.compared:
        return {**found, **reading.compared, "CONSTANT": reading.constant}
    found |= {**special, "MOST": renderer.max_length - sum(len(ids) for ids in special.values())}
    if not reading.steps:
        told = {name: value for name, value in reading.weights.items() if value}
        rated = {"CONSTANTS": dict(reading.constants), "WEIGHTS": told}
        return found | ({"CONSTANT": reading.constant} if reading.is_scalar else rated)
    found |= {"CONSTANT": reading.constant, "TAG": reading.steps["tag"]}
    mark, answer = reading.steps["mark"], reading.steps["answer"]
    read = mark.rstrip() or mark
    return found | ({"ANSWER": answer} if answer else {"MARK": read, "GAP": mark[len(read) :]} if mark else {})


def _sequence(reading: Reading) -> str:
    encode = COMPARED + ENCODE[ENCODE.index("\n\ndef logits") :] if reading.compared else ENCODE
    return encode + (SCALAR if reading.is_scalar else RATINGS)


def _steps(reading: Reading) -> str:
    places = TURNED_PLACES if reading.steps["answer"] else MARKED_PLACES if reading.steps["mark"] else PLAIN_PLACES
    return places.rstrip("\n") + "\n" + STEPS.replace("AGGREGATED", AGGREGATED[reading.steps["aggregation"]])
