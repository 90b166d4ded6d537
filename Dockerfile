# Builds two images: one for api, worker and migrate, and one that serves sample
# photos (target samples). Both have no compiler, run as an unprivileged user,
# and write only below /data and /tmp: run them with a read-only root file
# system.

FROM golang:1.26.8-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libvips-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ \
      ./cmd/photo-processor ./cmd/photo-processor-render \
 && go build -trimpath -ldflags "-s -w" -o /out-samples/ ./cmd/photo-processor-dev

# The same Debian release as above, because the programs link its libvips.
FROM debian:bookworm-20260824-slim AS runtime
# tini is process 1: it forwards signals and reaps orphans of killed render
# processes.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libvips42 tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin photo-processor
USER photo-processor
ENV DATA_DIR=/data
VOLUME /data

FROM runtime AS samples
COPY --from=build /out-samples/ /usr/local/bin/
ENTRYPOINT ["tini", "--", "photo-processor-dev", "samples"]

FROM runtime
COPY --from=build /out/ /usr/local/bin/
ENTRYPOINT ["tini", "--", "photo-processor"]
CMD ["api"]
# Checks the default command, api. A worker's check is: photo-processor health
# worker, which needs METRICS_ADDR.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["photo-processor", "health", "api"]
