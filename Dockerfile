# Build with the version stamped:
#   docker build --build-arg VERSION=v1.2.3 --build-arg REVISION="$(git rev-parse HEAD)" -t kms-auditor .
# You may replace both base images. BUILD_IMAGE needs Go in PATH, a shell and CA certificates; RUNTIME_IMAGE needs
# nothing.
ARG BUILD_IMAGE=golang:1.26.8-bookworm
ARG RUNTIME_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
# The go command reads both from the environment, for build hosts that need a module proxy.
ARG GOPROXY
ARG GOFLAGS
ENV CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION
ARG REVISION
RUN go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" \
        -o /out/kms-auditor ./cmd/kms-auditor \
    && cp "$(go env GOROOT)/lib/time/zoneinfo.zip" /out/ \
    && mkdir /out/state

FROM ${RUNTIME_IMAGE}
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="kms-auditor" \
      org.opencontainers.image.description="Checks that Phala Cloud's API and the dstack KMS contracts agree" \
      org.opencontainers.image.source="https://github.com/kms-auditor/kms-auditor" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/zoneinfo.zip /usr/share/zoneinfo.zip
COPY --from=build /out/kms-auditor /kms-auditor
COPY LICENSE /LICENSE
# The folder for a `state` volume. It belongs to the user below, and a new volume inherits that.
COPY --from=build --chown=65532:65532 /out/state /var/lib/kms-auditor
# Where Go looks for the schedule's time zone.
ENV ZONEINFO=/usr/share/zoneinfo.zip
# A number, so that an orchestrator can check that it is not root without /etc/passwd, which is missing.
USER 65532:65532
# Metrics, report and probes. The image has no HEALTHCHECK, since it contains no HTTP client. Let the orchestrator probe:
# GET /-/healthy (200: alive) for liveness, GET /-/ready (200 once an audit has finished, 503 before) for readiness.
# A failed source shows in the metrics, not in the probes: a restart would not repair it.
EXPOSE 10726
ENTRYPOINT ["/kms-auditor"]
CMD ["audit"]
