"""The demo data: our own hand-written prompts and generated tasks, with responses whose quality is known.

Everything in this package, texts included, was written for this project and is under its licence.
"""

from workers.data.demo.everyday import everyday_examples
from workers.data.demo.verifiable import verifiable_examples

__all__ = ["everyday_examples", "verifiable_examples"]
