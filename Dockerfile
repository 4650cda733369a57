# Build with the version stamped:
#   docker build --build-arg VERSION=v1.2.3 --build-arg REVISION="$(git rev-parse HEAD)" -t kms-auditor .
# Either base image may be replaced, for a mirror or a house standard. BUILD_IMAGE needs Go in PATH, a shell and CA
# certificates; RUNTIME_IMAGE needs nothing.
ARG BUILD_IMAGE=golang:1.26.8-bookworm
ARG RUNTIME_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
# The go command reads both from its environment: a build host may reach modules only through a proxy of its own.
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
      org.opencontainers.image.description="Audits what Phala Cloud's API claims about dstack KMS contracts against the chain" \
      org.opencontainers.image.source="https://github.com/kms-auditor/kms-auditor" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/zoneinfo.zip /usr/share/zoneinfo.zip
COPY --from=build /out/kms-auditor /kms-auditor
COPY LICENSE /LICENSE
# Where a volume for `state` goes: an empty folder that the user below may write, which a new volume takes over.
COPY --from=build --chown=65532:65532 /out/state /var/lib/kms-auditor
# Where Go looks for the schedule's time zone.
ENV ZONEINFO=/usr/share/zoneinfo.zip
# A number, so that an orchestrator can tell that it is not root without reading /etc/passwd, which is not there.
USER 65532:65532
# Metrics, report and probes. There is no HEALTHCHECK, since the image holds nothing that could ask; let the
# orchestrator ask instead: GET /-/healthy (alive: 200) for liveness, GET /-/ready (200 once an audit has finished,
# 503 before) for readiness. A source that fails shows in the metrics, not in the probes: a restart would not mend it.
EXPOSE 10726
ENTRYPOINT ["/kms-auditor"]
CMD ["audit"]
