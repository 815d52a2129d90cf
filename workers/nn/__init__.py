"""torch code. Importing this package is cheap; its modules load torch."""

import os

# Must be set before torch loads OpenMP. Its threads otherwise spin while they wait for each other, and on a machine
# that does anything else besides that can cost a factor of ten (docs/decisions/024).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Batches of joined sequences have a new shape each time; oneDNN would keep a kernel for each of the last 1024.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
