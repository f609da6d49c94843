# kong-python: a Kong image that runs the Python files of a folder as plugins.
#
#   docker build -t kong-python .
#   docker run -v "$PWD/plugins:/opt/kong/plugins:ro" kong-python
#
# Build arguments: KONG_IMAGE (the base), PYTHON (the apt package of the Python), INTERFACE (whether ProtoBuf:1 reaches
# the whole PDK), and at the end those for the labels; docs/operator.md describes them.
#
# Docker's legacy builder can build it: no RUN --mount, no here-documents, no COPY --chmod. Each instruction costs that
# builder some seconds, so there are few, and the ones that change often come last.
ARG KONG_IMAGE=kong:3.9
FROM ${KONG_IMAGE}

USER root

# Our wrappers, and in docker/host the settings that reach package registries; see docker/host/README.md.
COPY docker/ /tmp/docker/

# The apt package of the Python to use: the distribution's default, or another one of its archives.
ARG PYTHON=python3

# Kong's image has no Python. The distribution's Python is installed, and used in a virtual environment: outside of
# one, pip refuses to install ("externally managed").
RUN set -eu; \
    if [ -s /tmp/docker/host/apt.conf ]; then export APT_CONFIG=/tmp/docker/host/apt.conf; fi; \
    sh /tmp/docker/prepare-base "$PYTHON"; \
    install -m 0755 /tmp/docker/kong /tmp/docker/supervisorctl /opt/kong-python/; \
    ln -s /opt/kong-python/bin/kong-python /opt/kong-python/bin/kong-python-pluginserver /usr/local/bin/; \
    install -d -m 0755 /opt/kong /opt/kong/plugins; \
    # Sticky and writable by all, like /tmp, so that any uid can run the image and start it a second time. A tmpfs
    # that is mounted there takes its mode from the directory.
    install -d -m 1777 /run/kong-python /run/kong; \
    # The plugins' packages; a named volume takes owner and mode from here. Another user of the image is in group 0.
    # Sticky: no user can replace the directory of another one.
    install -d -o kong -g 0 -m 1775 /var/lib/kong-python /var/lib/kong-python/environments; \
    /opt/kong-python/bin/pip --version

ENV PATH=/opt/kong-python/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

EXPOSE 8000 8443 8001 8444

# Kong's graceful stop; supervisord treats QUIT, TERM and INT alike.
STOPSIGNAL SIGQUIT

HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["/opt/kong-python/bin/kong-python", "health"]

ENTRYPOINT ["/opt/kong-python/bin/kong-python", "entrypoint"]
CMD ["kong", "docker-start"]

# The dependencies in a layer of their own: a change of our code does not fetch them again. All of them are
# wheels; no compiler is needed. Tests of the dependencies, and the sources of their compiled modules, are removed.
COPY pdk/pyproject.toml pdk/README.md /tmp/pdk/
RUN set -eu; \
    . /tmp/docker/pip-settings; \
    mkdir -p /tmp/pdk/src/kong_pdk; \
    touch /tmp/pdk/src/kong_pdk/__init__.py; \
    pip install --only-binary :all: /tmp/pdk; \
    packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    # The bill of materials, by a tool that does not stay. kong-python is in it by its name and version, without the
    # folder that it was installed from.
    rm "$packages"/kong_python-*.dist-info/direct_url.json; \
    pip install --only-binary :all: --target /tmp/sbom 'cyclonedx-bom>=7.2,<8'; \
    mkdir -p /usr/local/share/sbom; \
    python -c 'import runpy, sys; sys.path.insert(0, "/tmp/sbom"); runpy.run_module("cyclonedx_py", None, "__main__", True)' \
        environment --output-reproducible --output-file /usr/local/share/sbom/kong-python.cdx.json /opt/kong-python; \
    pip uninstall --yes kong-python; \
    find "$packages" -depth -type d '(' -name tests -o -name testing ')' -exec rm -r {} ';'; \
    find "$packages" -type f '(' -name '*.[ch]' -o -name '*.p[xy][dx]' ')' -delete; \
    # What our own package is built with in the next step, which then needs no network.
    pip download --no-deps --only-binary :all: --dest /tmp/build 'setuptools>=77'; \
    rm -rf /tmp/pdk /tmp/sbom; \
    pip check

# extended: Kong's interface file gets the methods that let ProtoBuf:1 reach the whole PDK; stock: it is not changed.
ARG INTERFACE=extended

COPY pdk/ /tmp/pdk/
RUN set -eu; \
    pip install --quiet --no-cache-dir --disable-pip-version-check --no-index --find-links /tmp/build --no-deps /tmp/pdk; \
    mv /opt/kong-python/kong /opt/kong-python/supervisorctl /opt/kong-python/bin/; \
    rm -rf /tmp/pdk /tmp/docker /tmp/build; \
    pip check; \
    kong-python --version; \
    # A base may have another python3 beside PYTHON, which cannot load modules that are compiled for PYTHON.
    if [ "$(readlink -f /usr/bin/python3)" = "$(readlink -f /usr/local/bin/python)" ]; then \
        env -i /usr/bin/env python3 -c 'import kong_pdk, google.protobuf, msgpack'; \
    fi; \
    env -i sh -c 'python -c "import kong_pdk" && kong-python-pluginserver --version'; \
    case $INTERFACE in \
    stock) ;; \
    extended) kong-python extend-interface && \
        # Every user must be able to read it.
        setpriv --reuid=65534 --regid=65534 --clear-groups kong-python extend-interface --check || \
        { echo "kong-python: INTERFACE=stock builds the image without the extension" >&2; exit 1; } ;; \
    *) echo "kong-python: INTERFACE is '$INTERFACE'; set it to extended or to stock" >&2; exit 1 ;; \
    esac; \
    test "$(command -v kong)" = /opt/kong-python/bin/kong

USER kong

# The labels; last, since they change with every commit and would invalidate the cache. scripts/image fills them from
# pdk/pyproject.toml, git and the base. All are set, if only to nothing: an inherited label would describe Kong's image.
# SOURCE is the URL of the repository, with its documentation. It has no default: a fork has its own.
ARG KONG_IMAGE KONG_IMAGE_DIGEST= VERSION=0.1.0 REVISION= CREATED= SOURCE=
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
