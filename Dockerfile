FROM python:3.13-slim AS build
WORKDIR /srv/tagback
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY app ./app
# The lock also pins the tools of the tests; the image installs what the project depends on, at the
# locked versions, and nothing else.
RUN python -m venv /opt/tagback \
    && grep -v -- '--hash' requirements.lock | sed 's/ \\$//' > /tmp/constraints.txt \
    && /opt/tagback/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt .

FROM python:3.13-slim
RUN useradd --system --create-home --home-dir /var/lib/tagback tagback
WORKDIR /srv/tagback
COPY --from=build /opt/tagback /opt/tagback
COPY migrations ./migrations
COPY alembic.ini ./
COPY docs/problems.md ./docs/problems.md
COPY app ./app
ENV PATH=/opt/tagback/bin:$PATH \
    PYTHONPATH=/srv/tagback \
    PYTHONUNBUFFERED=1 \
    TAGBACK_DATA_DIR=/var/lib/tagback/data \
    TAGBACK_HOST=0.0.0.0
USER tagback
VOLUME /var/lib/tagback
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["tagback"]
CMD ["serve"]
