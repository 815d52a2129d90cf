# A worker without a GPU: imports, exports, judges behind an endpoint, training and scoring of small models.
#   docker build -f docker/worker-cpu.Dockerfile -t steelyard-worker-cpu .
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
    STEELYARD_ENV=production STEELYARD_HOME=/data STEELYARD_HEARTBEAT_FILE=/tmp/steelyard-heartbeat

# The CPU build of torch; the one on PyPI brings several GB of CUDA along.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
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
CMD ["celery", "-A", "steelyard.celery", "worker", "--concurrency", "1", "-n", "default@%h", "-Q", "default", \
     "--without-gossip", "--without-mingle", "--without-heartbeat"]
