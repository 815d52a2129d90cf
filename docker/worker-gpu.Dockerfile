# A worker with one GPU: `docker run --gpus device=0 ...`, one container for each GPU.
#   docker build -f docker/worker-gpu.Dockerfile -t steelyard-worker-gpu .
# torch from PyPI carries its CUDA libraries; the host needs the NVIDIA driver and nvidia-container-toolkit alone.
# For another CUDA version name its wheel index: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
FROM python:3.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home steelyard \
    && install --directory --owner=steelyard /app /data

USER 1000
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    STEELYARD_ENV=production STEELYARD_HOME=/data STEELYARD_HEARTBEAT_FILE=/tmp/steelyard-heartbeat \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

ARG TORCH_INDEX=""
COPY --chown=steelyard pyproject.toml constraints.txt ./
COPY --chown=steelyard scripts/bootstrap.py scripts/
RUN PIP_EXTRA_INDEX_URL=$TORCH_INDEX python scripts/bootstrap.py worker

COPY --chown=steelyard . .

VOLUME /data
# SIGQUIT: hand the run back and leave within seconds. SIGTERM would wait for the job, which may take hours.
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s --start-period=60s \
    CMD ["sh", "-c", "test -n \"$(find /tmp/steelyard-heartbeat -mmin -1 2>/dev/null)\""]
ENTRYPOINT ["tini", "--"]
# One job at a time and a fresh process for each: GPU memory is given back whatever the job did.
CMD ["celery", "-A", "steelyard.celery", "worker", "--concurrency", "1", "--max-tasks-per-child", "1", "-n", "gpu@%h", \
     "-Q", "gpu,judge", "--without-gossip", "--without-mingle", "--without-heartbeat"]
