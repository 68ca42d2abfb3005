FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# The builder's pip fills both environments; the one that goes out has no pip of its own.
RUN python -m venv /build && python -m venv --without-pip /opt/relay
COPY deploy/requirements*.lock ./
RUN /build/bin/pip install --require-hashes -r requirements-build.lock
RUN /build/bin/pip --python /opt/relay/bin/python install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY relay relay
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/relay/bin/python install --no-deps /wheels/*.whl


FROM python:3.13-slim
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="job-relay" \
      org.opencontainers.image.description="Takes job requests from RabbitMQ or HTTP, runs them at vendors' job systems and announces how each one ended." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

COPY --from=build /opt/relay /opt/relay
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/relay
ENV PATH=/opt/relay/bin:$PATH \
    HOME=/var/lib/relay \
    RELAY_DATABASE__URL=sqlite:////var/lib/relay/relay.db

USER 10001:10001
WORKDIR /var/lib/relay
VOLUME /var/lib/relay
EXPOSE 8080
STOPSIGNAL SIGTERM
# Alive is whoever answers: a broker or a vendor that is down is no reason to be restarted. Another port than 8080 has to
# be given as RELAY_HTTP__PORT: what a file of settings says is not seen here.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", \
  "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('RELAY_HTTP__PORT') or 8080), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["relay"]
CMD ["serve"]
