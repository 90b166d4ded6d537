# One image for api, worker and migrate. The second stage has no compiler, runs
# as nobody in particular, and writes nowhere but below /data and /tmp: run it
# with a read-only root file system.

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
      ./cmd/photo-processor ./cmd/photo-processor-render

# The same Debian as above: the programs are linked against its libvips.
FROM debian:bookworm-20260824-slim
# tini is process 1: it passes signals on, and reaps what renderers that were
# killed leave behind.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libvips42 tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin photo-processor
COPY --from=build /out/ /usr/local/bin/
USER photo-processor
ENV DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["tini", "--", "photo-processor"]
CMD ["api"]
# Of the default command. A worker's is: photo-processor health worker, with
# METRICS_ADDR.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["photo-processor", "health", "api"]
