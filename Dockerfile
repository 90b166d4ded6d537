# One image for api, worker and migrate. The second stage has no compiler.

FROM golang:1.26.8-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libvips-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN go build -ldflags "-X main.version=${VERSION}" -o /out/ ./cmd/photo-processor ./cmd/photo-processor-render

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libvips42 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --create-home photo-processor
COPY --from=build /out/ /usr/local/bin/
USER photo-processor
ENV DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["photo-processor"]
CMD ["api"]
