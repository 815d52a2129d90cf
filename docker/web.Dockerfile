# The web process, and with another command the migration step and the sweeper. No torch in here.
#   docker build -f docker/web.Dockerfile -t steelyard-web .
FROM python:3.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home steelyard \
    && install --directory --owner=steelyard /app /data

USER 1000
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    STEELYARD_ENV=production STEELYARD_HOME=/data STEELYARD_STATIC_ROOT=/app/staticfiles

# Dependencies first: this layer is rebuilt only when the pins change.
COPY --chown=steelyard pyproject.toml constraints.txt ./
COPY --chown=steelyard scripts/bootstrap.py scripts/
RUN python scripts/bootstrap.py web

COPY --chown=steelyard . .
# Hashed static files, with settings that exist for this one command.
RUN STEELYARD_SECRET_KEY=only-for-collectstatic-never-used-to-sign-anything-000 \
    STEELYARD_ALLOWED_HOSTS=build.invalid STEELYARD_DATABASE_URL=postgresql://build.invalid/none \
    python manage.py collectstatic --noinput

VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "steelyard.web", "--host", "0.0.0.0", "--port", "8000"]
