# kong-python: a Kong image in which a folder of Python files is a set of running plugins.
#
#   docker build -t kong-python .
#   docker run -v "$PWD/plugins:/opt/kong/plugins:ro" kong-python
#
# Plain enough for Docker's legacy builder: no RUN --mount, no here-documents, no COPY --chmod. Each instruction costs
# that builder some seconds, so they are few, and what changes often comes last.
ARG KONG_IMAGE=kong:3.9
FROM ${KONG_IMAGE}

USER root

# Our wrappers, and in docker/host what makes registries reachable from here; see docker/host/README.md.
COPY docker/ /tmp/docker/

# Kong's image has no Python. Its distribution's own is used, in a virtual environment: outside of one it is
# "externally managed".
RUN set -eu; \
    if ! command -v apt-get >/dev/null; then \
        echo "kong-python: this base image has no apt-get; use a Debian or Ubuntu based Kong image, such as kong:3.9" >&2; \
        exit 1; \
    fi; \
    if [ -s /tmp/docker/host/apt.conf ]; then export APT_CONFIG=/tmp/docker/host/apt.conf; fi; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update -qq; \
    apt-get install -qq -y --no-install-recommends python3 python3-venv >/dev/null; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log; \
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
        "kong-python: the Python of this base image is %d.%d, 3.10 is the least" % sys.version_info[:2])'; \
    python3 -m venv /opt/kong-python; \
    install -m 0755 /tmp/docker/kong /tmp/docker/supervisorctl /opt/kong-python/; \
    # Servers that Kong starts itself get no PATH at all: `#!/usr/bin/env python3` is the system's Python there, which is
    # to find the PDK too. Without a PATH it does not look below /usr/local.
    install -d /usr/lib/python3/dist-packages; \
    /opt/kong-python/bin/python3 -c 'import site; print(site.getsitepackages()[0])' \
        >/usr/lib/python3/dist-packages/kong-python.pth; \
    ln -s /usr/bin/python3 /usr/local/bin/python; \
    ln -s /opt/kong-python/bin/kong-python /opt/kong-python/bin/kong-python-pluginserver /usr/local/bin/; \
    install -d -m 0755 /opt/kong /opt/kong/plugins; \
    # Sticky and open to all, as /tmp is, so that any uid can run the image, with or without a tmpfs there, and
    # can start a second time: a tmpfs takes its mode from the directory below.
    install -d -m 1777 /run/kong-python /run/kong; \
    # Where plugins' packages are installed; a named volume takes owner and mode from here. Who runs the image as
    # another user does so in group 0.
    install -d -o kong -g 0 -m 0775 /var/lib/kong-python; \
    /opt/kong-python/bin/pip --version; \
    # Kong Inc.'s own builds, kong/kong and kong/kong-gateway, have it under another name.
    if [ ! -e /docker-entrypoint.sh ] && [ -x /entrypoint.sh ]; then ln -s /entrypoint.sh /docker-entrypoint.sh; fi; \
    if [ ! -x /docker-entrypoint.sh ]; then \
        echo "kong-python: this base image has no /docker-entrypoint.sh; use a Kong image, such as kong:3.9" >&2; \
        exit 1; \
    fi

ENV PATH=/opt/kong-python/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

LABEL org.opencontainers.image.title="kong-python" \
      org.opencontainers.image.description="Kong Gateway in which a folder of Python files is a set of running plugins" \
      org.opencontainers.image.licenses="Apache-2.0"

EXPOSE 8000 8443 8001 8444

# Kong's own graceful stop; supervisord takes any of QUIT, TERM and INT the same way.
STOPSIGNAL SIGQUIT

HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["/opt/kong-python/bin/kong-python", "health"]

ENTRYPOINT ["/opt/kong-python/bin/kong-python", "entrypoint"]
CMD ["kong", "docker-start"]

# The dependencies in a layer of their own: a change of our code does not fetch them again. All of them are
# wheels; no compiler is needed. pip trusts the system's certificates and not its own: those that the base brings,
# or those of the building machine.
COPY pdk/pyproject.toml pdk/README.md /tmp/pdk/
RUN set -eu; \
    host=/tmp/docker/host system=/etc/ssl/certs/ca-certificates.crt; \
    if [ -s $host/pip.conf ]; then export PIP_CONFIG_FILE=$host/pip.conf; fi; \
    if [ -s $host/ca-certificates.crt ]; then export PIP_CERT=$host/ca-certificates.crt; \
    elif [ -s $system ]; then export PIP_CERT=$system; fi; \
    mkdir -p /tmp/pdk/src/kong_pdk; \
    touch /tmp/pdk/src/kong_pdk/__init__.py; \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1; \
    pip install --only-binary :all: /tmp/pdk; \
    pip uninstall --yes kong-python; \
    # What our own package is built with in the next step, which then needs no network.
    pip install 'setuptools>=77'; \
    rm -rf /tmp/pdk; \
    pip check

COPY pdk/ /tmp/pdk/
RUN set -eu; \
    pip install --quiet --no-cache-dir --disable-pip-version-check --no-index --no-deps --no-build-isolation /tmp/pdk; \
    mv /opt/kong-python/kong /opt/kong-python/supervisorctl /opt/kong-python/bin/; \
    rm -rf /tmp/pdk /tmp/docker; \
    pip check; \
    kong-python --version; \
    env -i /usr/bin/env python3 -c 'import kong_pdk, google.protobuf, msgpack'; \
    env -i sh -c 'python -c "import kong_pdk" && kong-python-pluginserver --version'; \
    test "$(command -v kong)" = /opt/kong-python/bin/kong

USER kong
