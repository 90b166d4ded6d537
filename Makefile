# Commands for developers. `make help` lists them.

BIN           := bin/photo-processor
DEV           := bin/photo-processor-dev
# Not VERSION, which is docker compose's: make would export it.
BUILD_VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The linters, at exact versions. go run builds each once and caches it.
# golangci-lint caches its findings by content with the paths of the checkout that was
# linted first. Another checkout of the same files would get these paths, and fail to find
# the files that it has to read for exclusions. So each checkout has a cache of its own.
GOLANGCI_LINT := GOLANGCI_LINT_CACHE=$(CURDIR)/.cache/golangci-lint go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2
GOVULNCHECK   := go run golang.org/x/vuln/cmd/govulncheck@v1.1.4
WORKFLOWCHECK := go run go.temporal.io/sdk/contrib/tools/workflowcheck@v0.6.0

.DEFAULT_GOAL := help
.PHONY: help start cluster secrets stop status logs db-schema psql backup restore build deps test-deps test check unit bench test-cluster test-compose chaos fuzz generate histories check-kubernetes clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

start: build ## Start everything on this machine in the background; install missing packages
	@$(DEV) start

cluster: build ## Like start, with Temporal's production server on PostgreSQL and WORKERS (3) workers
	@$(DEV) start --cluster

SECRETS := POSTGRES_PASSWORD PHOTOS_PASSWORD TEMPORAL_PASSWORD TEMPORAL_VISIBILITY_PASSWORD \
	GRAFANA_PASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
RANDOM_SECRET := head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
secrets: ## Write random passwords for docker compose to .secrets; keep those that it has
	@umask 077 && touch .secrets && for name in $(SECRETS); do \
		grep -Eq "(^|[ #])$$name=" .secrets || echo "export $$name=$$($(RANDOM_SECRET))" >>.secrets; done
	@grep -Eq "(^|[ #])API_TOKEN=" .secrets || printf '%s\n' \
		"# Without the #, the API requires this token; see .env." \
		"#export API_TOKEN=$$($(RANDOM_SECRET))" >>.secrets
	@echo "Set them with: . ./.secrets"

stop: $(DEV) ## Stop what start or cluster has started; keep all data
	@$(DEV) stop

status: $(DEV) ## Show what runs, and where
	@$(DEV) status

logs: $(DEV) ## Follow all logs until Ctrl-C
	@eval "$$($(DEV) env)" && exec tail -n 20 -F "$$DATA_DIR"/logs/*.log

db-schema: build ## Drop all photos, recreate the schema, and add six sample photos
	@$(DEV) db-schema

psql: $(DEV) ## Open a shell on the database
	@$(DEV) status >/dev/null || { echo "photo-processor is not running; start it first: make start"; exit 1; }
	@eval "$$($(DEV) env)" && exec psql "$$DATABASE_URL"

backup: ## Back up all data to the new directory DIR, while everything runs; STACK=compose for docker compose
	@docs/backup.sh backup "$(STACK)" "$(DIR)"

restore: ## Replace all data with the backup in DIR; FORCE=1 does not ask; STACK=compose as above
	@docs/backup.sh restore "$(STACK)" "$(DIR)"

# Only if it is missing: a stack can be stopped while the code does not compile.
$(DEV):
	@$(MAKE) --no-print-directory build

build: deps ## Build photo-processor, its renderer and photo-processor-dev into bin/
	@[ -x $(BIN) ] || echo "Building; the first build on a machine takes some minutes …"
	@go build -ldflags '-X main.version=$(BUILD_VERSION)' -o bin/ ./cmd/photo-processor ./cmd/photo-processor-render ./cmd/photo-processor-dev

deps:
	@internal/devstack/install-deps.sh

test-deps:
	@internal/devstack/install-deps.sh tests

test: test-deps check unit ## Check and test everything, with the race detector; needs no running server

check:
	$(GOLANGCI_LINT) run --timeout 10m
	$(WORKFLOWCHECK) ./workflows/...
	@if curl -sfo /dev/null -m 10 https://vuln.go.dev/index/modules.json; then $(GOVULNCHECK) ./...; \
		else echo "govulncheck is skipped: its database vuln.go.dev cannot be reached"; fi

unit:
	go test -race ./...
	go test -run '^$$' -bench . -benchtime 1x ./api ./internal/postgres ./internal/renderer ./internal/source

N      ?= 300
STACK  ?= native
BOXES  ?=
REPEAT ?= 0
WATCHERS ?= 0
COMPARE ?=
bench: build ## Measure throughput and cost of N photos (300); also STACK="native cluster", BOXES="1 3", COMPARE=revision
	@go run ./cmd/bench -n $(N) -stack "$(STACK)" -boxes "$(BOXES)" -repeat $(REPEAT) -watchers $(WATCHERS) -compare "$(COMPARE)"

PHOTOS ?= 500
test-cluster: deps ## Kill a worker, Temporal and PostgreSQL of a cluster while PHOTOS (500) are processed
	go test -race ./cmd/photo-processor -run '^(TestCluster|TestComposeNatively)$$' -cluster -photos $(PHOTOS) -timeout 30m -v

test-compose: deps ## Kill and restart parts of docker-compose.yml's stack while 100 photos are processed; needs Docker
	@docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 || \
		{ echo "make test-compose needs a Docker engine and the plugin compose; there is none here"; exit 1; }
	go test ./cmd/photo-processor -run '^TestCompose$$' -compose -timeout 1h -v

SEEDS ?= 1
SEED  ?= 0
chaos: deps ## Inject faults during a batch and audit the result; SEEDS=20 runs 20 seeds, SEED=7 repeats one
	@mkdir -p bin/chaos # for the logs of a violation
	go test ./internal/chaos -run TestChaos -v -count 1 -timeout 3h -artifacts -outputdir $(CURDIR)/bin/chaos -seeds $(SEEDS) -seed $(SEED)

FUZZTIME ?= 1m
fuzz: deps ## Fuzz all parsers of untrusted input, for FUZZTIME each (1m)
	go test ./api -run '^$$' -fuzz FuzzProcessBody -fuzztime $(FUZZTIME)
	go test ./internal/source -run '^$$' -fuzz FuzzCheckURL -fuzztime $(FUZZTIME)
	go test ./internal/source -run '^$$' -fuzz FuzzParseRetryAfter -fuzztime $(FUZZTIME)
	go test ./internal/mediatype -run '^$$' -fuzz FuzzDetect -fuzztime $(FUZZTIME)
	go test ./internal/thumbnail -run '^$$' -fuzz FuzzMake -fuzztime $(FUZZTIME)
	go test ./internal/thumbnail -run '^$$' -fuzz FuzzUnsupportedFeature -fuzztime $(FUZZTIME)
	go test ./internal/renderer/protocol -run '^$$' -fuzz FuzzReadAnswer -fuzztime $(FUZZTIME)
	go test ./internal/renderer -run '^$$' -fuzz FuzzRender -fuzztime $(FUZZTIME)

generate: ## Generate the API's client and types from api/openapi.yaml
	go generate ./...

histories: deps ## Record the missing histories of TestRecordHistories
	go test ./workflows -run TestRecordHistories -record -v

check-kubernetes: ## Validate docs/kubernetes/*.yaml with Kubernetes' own types
	@cd docs/kubernetes/check && go run . ../*.yaml

clean: stop ## Stop everything; delete all data and built programs
	@eval "$$($(DEV) env)" && rm -rf "$$DATA_DIR" && echo "Deleted $$DATA_DIR"
	@rm -rf .cache bin
