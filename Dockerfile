# kong-python: a Kong image in which a folder of Python files is a set of running plugins.
#
#   docker build -t kong-python .
#   docker run -v "$PWD/plugins:/opt/kong/plugins:ro" kong-python
#
# Build arguments: KONG_IMAGE (the base), PYTHON (the apt package of the Python), INTERFACE (what ProtoBuf:1 reaches),
# and at the end those that fill the labels; docs/operator.md tells about them.
#
# Plain enough for Docker's legacy builder: no RUN --mount, no here-documents, no COPY --chmod. Each instruction costs
# that builder some seconds, so they are few, and what changes often comes last.
ARG KONG_IMAGE=kong:3.9
FROM ${KONG_IMAGE}

USER root

# Our wrappers, and in docker/host what makes registries reachable from here; see docker/host/README.md.
COPY docker/ /tmp/docker/

# The apt package of the Python to use: that of the base's distribution, or another that its archives have.
ARG PYTHON=python3

# Kong's image has no Python. Its distribution's own is used, in a virtual environment: outside of one it is
# "externally managed".
RUN set -eu; \
    if [ -s /tmp/docker/host/apt.conf ]; then export APT_CONFIG=/tmp/docker/host/apt.conf; fi; \
    sh /tmp/docker/prepare-base "$PYTHON"; \
    install -m 0755 /tmp/docker/kong /tmp/docker/supervisorctl /opt/kong-python/; \
    ln -s /opt/kong-python/bin/kong-python /opt/kong-python/bin/kong-python-pluginserver /usr/local/bin/; \
    install -d -m 0755 /opt/kong /opt/kong/plugins; \
    # Sticky and open to all, as /tmp is, so that any uid can run the image, with or without a tmpfs there, and
    # can start a second time: a tmpfs takes its mode from the directory below.
    install -d -m 1777 /run/kong-python /run/kong; \
    # Where plugins' packages are installed; a named volume takes owner and mode from here. Who runs the image as
    # another user does so in group 0. Sticky: nobody can put another directory in the place of a user's own.
    install -d -o kong -g 0 -m 1775 /var/lib/kong-python /var/lib/kong-python/environments; \
    /opt/kong-python/bin/pip --version

ENV PATH=/opt/kong-python/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

EXPOSE 8000 8443 8001 8444

# Kong's own graceful stop; supervisord takes any of QUIT, TERM and INT the same way.
STOPSIGNAL SIGQUIT

HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["/opt/kong-python/bin/kong-python", "health"]

ENTRYPOINT ["/opt/kong-python/bin/kong-python", "entrypoint"]
CMD ["kong", "docker-start"]

# The dependencies in a layer of their own: a change of our code does not fetch them again. All of them are
# wheels; no compiler is needed. pip trusts the system's certificates and not its own: those that the base brings,
# or those of the building machine. Their own tests and the sources of their compiled modules are left out.
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
    packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    find "$packages" -depth -type d '(' -name tests -o -name testing ')' -exec rm -r {} ';'; \
    find "$packages" -type f -name '*.[ch]' -o -type f -name '*.p[xy][dx]' | xargs rm; \
    # What our own package is built with in the next step, which then needs no network.
    pip download --no-deps --only-binary :all: --dest /tmp/build 'setuptools>=77'; \
    rm -rf /tmp/pdk; \
    pip check

# extended: Kong's interface file gets the methods with which ProtoBuf:1 reaches the whole PDK; stock: it stays as it is.
ARG INTERFACE=extended

COPY pdk/ /tmp/pdk/
RUN set -eu; \
    pip install --quiet --no-cache-dir --disable-pip-version-check --no-index --find-links /tmp/build --no-deps /tmp/pdk; \
    mv /opt/kong-python/kong /opt/kong-python/supervisorctl /opt/kong-python/bin/; \
    rm -rf /tmp/pdk /tmp/docker /tmp/build; \
    pip check; \
    kong-python --version; \
    # A base may have a python3 of its own beside PYTHON: that one cannot load what is compiled for another version.
    if [ "$(readlink -f /usr/bin/python3)" = "$(readlink -f /usr/local/bin/python)" ]; then \
        env -i /usr/bin/env python3 -c 'import kong_pdk, google.protobuf, msgpack'; \
    fi; \
    env -i sh -c 'python -c "import kong_pdk" && kong-python-pluginserver --version'; \
    case $INTERFACE in \
    stock) ;; \
    extended) kong-python extend-interface && \
        # Whoever runs the image has to be able to read it.
        setpriv --reuid=65534 --regid=65534 --clear-groups kong-python extend-interface --check || \
        { echo "kong-python: INTERFACE=stock builds the image without the extension" >&2; exit 1; } ;; \
    *) echo "kong-python: INTERFACE is '$INTERFACE'; set it to extended or to stock" >&2; exit 1 ;; \
    esac; \
    test "$(command -v kong)" = /opt/kong-python/bin/kong

USER kong

# What the image says of itself; last, since it changes with every commit and must not spoil the cache. scripts/image
# fills in what pdk/pyproject.toml, git and the base say. All of them are set, be it to nothing: a label of the base
# image that was left standing would speak of Kong's image, and of Ubuntu's.
ARG KONG_IMAGE
ARG KONG_IMAGE_DIGEST=
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
# The URL of the repository, with its documentation. None is written here: a fork has its own.
ARG SOURCE=
LABEL maintainer="kong-python maintainers" \
      org.opencontainers.image.title="kong-python" \
      org.opencontainers.image.description="Kong Gateway in which a folder of Python files is a set of running plugins" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.authors="kong-python maintainers" \
      org.opencontainers.image.vendor="kong-python" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.url="$SOURCE" \
      org.opencontainers.image.documentation="$SOURCE" \
      org.opencontainers.image.ref.name="" \
      org.opencontainers.image.base.name="$KONG_IMAGE" \
      org.opencontainers.image.base.digest="$KONG_IMAGE_DIGEST"
