// Package config reads the configuration of photo-processor from environment
// variables. Every variable has a default. All mistakes are reported at once,
// each with the variable's name. No error quotes a value that may be secret.
//
// The connection to Temporal is configured by the variables of Temporal's SDK
// (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS…), see
// go.temporal.io/sdk/contrib/envconfig.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Values of RENDER_SANDBOX.
const (
	SandboxRequired   = "required"    // no picture is rendered without all layers
	SandboxBestEffort = "best-effort" // without the layers that the kernel refuses
)

// Config has all settings. A test compares docs/configuration.md with it.
type Config struct {
	// DataDir is the directory of the files whose own variable is not set.
	DataDir string `env:"DATA_DIR" envDefault:".data"`

	// DatabaseURL is the PostgreSQL database, as a URL or in key=value form.
	DatabaseURL      string `env:"DATABASE_URL" envDefault:"postgres://photos@127.0.0.1:5432/photos"`
	DatabaseMaxConns int32  `env:"DATABASE_MAX_CONNS" envDefault:"16"` // per process

	// HTTPAddr is the host and port on which the API listens.
	HTTPAddr string `env:"HTTP_ADDR" envDefault:"127.0.0.1:3000"`
	// APITokens are the bearer tokens that the API accepts. Several allow a
	// rotation without downtime.
	APITokens []string `env:"API_TOKEN"`
	// APIAllowAnonymous allows an HTTPAddr that other machines can reach
	// without a token.
	APIAllowAnonymous bool `env:"API_ALLOW_ANONYMOUS" envDefault:"false"`
	// HTTPAllowedHosts are names in lower case that a request may have as its
	// Host if no token is configured, besides IP addresses and localhost.
	HTTPAllowedHosts []string `env:"HTTP_ALLOWED_HOSTS"`
	// HTTPCORSOrigins are the origins, such as https://example.com, whose pages may
	// read responses.
	HTTPCORSOrigins []string `env:"HTTP_CORS_ORIGINS"`
	// HTTPMaxPhotos bounds the photos of a request, HTTPMaxBodyBytes the body of
	// POST /photos/process, which has UUIDs, and HTTPMaxURLsBytes the body of
	// POST /photos, which has URLs. The defaults have room for URLs of 400 bytes.
	HTTPMaxPhotos    int   `env:"HTTP_MAX_PHOTOS" envDefault:"10000"`
	HTTPMaxBodyBytes int64 `env:"HTTP_MAX_BODY_BYTES" envDefault:"1048576"`
	HTTPMaxURLsBytes int64 `env:"HTTP_MAX_URLS_BYTES" envDefault:"4194304"`
	// HTTPMaxMemory bounds the bytes of all request bodies and lists that the
	// API has in memory at one time.
	HTTPMaxMemory int64 `env:"HTTP_MAX_MEMORY" envDefault:"67108864"`
	// HTTPTimeout bounds a request: reading it, PostgreSQL, and starting its
	// workflows. A response must be written within HTTPTimeout plus 5 seconds
	// after the request's headers; then the connection is closed.
	HTTPTimeout time.Duration `env:"HTTP_TIMEOUT" envDefault:"30s"`
	// StartDirectly is the largest number of photos in a request whose
	// workflows the API starts itself. For a larger request it starts a
	// StartPhotos workflow, which starts them with a lower priority. The API
	// always starts the workflow of a single photo itself.
	StartDirectly int `env:"START_DIRECTLY" envDefault:"100"`
	// StartConcurrency is how many workflows a request, or the workflow of a
	// large request, starts concurrently.
	StartConcurrency int `env:"START_CONCURRENCY" envDefault:"2"`
	// ShutdownTimeout is how long a process finishes its work after SIGTERM.
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"30s"`

	// TaskQueue is the Temporal task queue that connects API and workers.
	TaskQueue string `env:"TASK_QUEUE" envDefault:"photo-processor"`
	// WorkerPhotos is the worker's slots for workflow tasks: photos whose steps
	// run as local activities. Photos that need regular activities do not occupy
	// one. 0 means slotsPerRender for each of RenderConcurrency.
	WorkerPhotos int `env:"WORKER_PHOTOS" envDefault:"0"`
	// WorkerActivities is how many regular activities one worker runs
	// concurrently: fetches from slow sources, and retries.
	WorkerActivities int `env:"WORKER_ACTIVITIES" envDefault:"32"`

	// WorkerDeployment is the name of the worker deployment in Temporal's
	// worker versioning; empty turns versioning off. WorkerBuildID is this
	// worker's version in it, by default the program's.
	WorkerDeployment string `env:"WORKER_DEPLOYMENT"`
	WorkerBuildID    string `env:"WORKER_BUILD_ID"`

	// DependencyInterval is how often a process checks PostgreSQL, Temporal and
	// the bucket, to log when one goes away and when it is back.
	DependencyInterval time.Duration `env:"DEPENDENCY_INTERVAL" envDefault:"5s"`

	// ReconcileInterval is how often the reconciler looks for photos that are
	// processing without an open run.
	ReconcileInterval time.Duration `env:"RECONCILE_INTERVAL" envDefault:"5m"`

	// BatchRetention is the age at which the reconciler deletes a batch.
	BatchRetention time.Duration `env:"BATCH_RETENTION" envDefault:"720h"`

	// EventsInterval is how often the API reads changes of photos and batches while
	// a client of GET /events is connected, and HTTPMaxWatchers the largest number
	// of these clients.
	EventsInterval  time.Duration `env:"EVENTS_INTERVAL" envDefault:"500ms"`
	HTTPMaxWatchers int           `env:"HTTP_MAX_WATCHERS" envDefault:"1000"`

	// SourceCacheDir is the directory of fetched sources that do not fit into
	// SourceCacheMemory. Defaults to DATA_DIR/sources.
	SourceCacheDir string `env:"SOURCE_CACHE_DIR"`
	// SourceCacheMemory and SourceCacheDisk are the most bytes of sources in
	// memory and in the directory, per worker.
	SourceCacheMemory int64 `env:"SOURCE_CACHE_MEMORY" envDefault:"67108864"`
	SourceCacheDisk   int64 `env:"SOURCE_CACHE_DISK" envDefault:"4294967296"`
	// SourceCacheMaxAge is how long an unused source is kept.
	SourceCacheMaxAge time.Duration `env:"SOURCE_CACHE_MAX_AGE" envDefault:"10m"`
	// ThumbnailsBucket is the bucket of the thumbnails, a URL of
	// gocloud.dev/blob. Defaults to DATA_DIR/thumbnails.
	ThumbnailsBucket string `env:"THUMBNAILS_BUCKET"`
	// BucketTimeout bounds one request to the bucket.
	BucketTimeout time.Duration `env:"BUCKET_TIMEOUT" envDefault:"1m"`

	// ThumbnailSizes are the boxes that thumbnails fit into or cover.
	ThumbnailSizes   []photo.Box  `env:"THUMBNAIL_SIZES" envDefault:"320x320"`
	ThumbnailFormat  photo.Format `env:"THUMBNAIL_FORMAT" envDefault:"jpeg"`
	ThumbnailQuality int          `env:"THUMBNAIL_QUALITY" envDefault:"80"` // 1 to 100; PNG ignores it

	// SourceURLsShown is how the API shows the URLs of sources: SourceURLsRedacted
	// or SourceURLsFull.
	SourceURLsShown string `env:"SOURCE_URLS_SHOWN" envDefault:"redacted"`
	// TemporalUIURL is the address at which people open Temporal's Web UI, without
	// a slash at its end. If it is set, a photo links to its workflow.
	TemporalUIURL string `env:"TEMPORAL_UI_URL"`

	// WebhookURL is the receiver of webhooks; empty sends none. WebhookSecrets
	// sign them: several allow a rotation. WebhookTimeout bounds one request.
	WebhookURL     string        `env:"WEBHOOK_URL"`
	WebhookSecrets []string      `env:"WEBHOOK_SECRET"`
	WebhookTimeout time.Duration `env:"WEBHOOK_TIMEOUT" envDefault:"15s"`

	// Limits on sources. See internal/source.
	SourceMaxBytes          int64            `env:"SOURCE_MAX_BYTES" envDefault:"67108864"`
	SourceTimeout           time.Duration    `env:"SOURCE_TIMEOUT" envDefault:"60s"`
	SourceConnectTimeout    time.Duration    `env:"SOURCE_CONNECT_TIMEOUT" envDefault:"10s"`
	SourceHeaderTimeout     time.Duration    `env:"SOURCE_HEADER_TIMEOUT" envDefault:"20s"`
	SourceMaxHeaderBytes    int64            `env:"SOURCE_MAX_HEADER_BYTES" envDefault:"65536"`
	SourceMaxRedirects      int              `env:"SOURCE_MAX_REDIRECTS" envDefault:"5"`
	SourceMinBytesPerSecond int64            `env:"SOURCE_MIN_BYTES_PER_SECOND" envDefault:"1024"`
	SourceMaxRetryAfter     time.Duration    `env:"SOURCE_MAX_RETRY_AFTER" envDefault:"10m"`
	SourceHostConcurrency   int              `env:"SOURCE_HOST_CONCURRENCY" envDefault:"8"`
	SourceMaxWaiting        int              `env:"SOURCE_MAX_WAITING" envDefault:"8"`
	SourceMaxHostWait       time.Duration    `env:"SOURCE_MAX_HOST_WAIT" envDefault:"1s"`
	SourceAllowCIDRs        []netip.Prefix   `env:"SOURCE_ALLOW_CIDRS"`
	SourceAllowAddresses    []netip.AddrPort `env:"SOURCE_ALLOW_ADDRESSES"`
	SourceUserAgent         string           `env:"SOURCE_USER_AGENT" envDefault:"photo-processor"`
	SourceProxy             *url.URL         `env:"SOURCE_PROXY"`

	// Limits on pictures. See internal/thumbnail.
	ImageMaxPixels int64 `env:"IMAGE_MAX_PIXELS" envDefault:"250000000"`
	ImageMaxFrames int   `env:"IMAGE_MAX_FRAMES" envDefault:"1000"`

	// RenderConcurrency is how many pictures one worker renders concurrently; 0
	// means GOMAXPROCS: the number of CPUs, or a container's CPU limit if that
	// is lower. RenderTimeout bounds the time for a picture,
	// RenderMaxMemory the bytes of memory of its process. See
	// internal/renderer.
	RenderConcurrency int           `env:"RENDER_CONCURRENCY" envDefault:"0"`
	RenderTimeout     time.Duration `env:"RENDER_TIMEOUT" envDefault:"60s"`
	RenderMaxMemory   int64         `env:"RENDER_MAX_MEMORY" envDefault:"1073741824"`
	// RenderMaxPictures is how many pictures a process renders before it is
	// replaced.
	RenderMaxPictures int `env:"RENDER_MAX_PICTURES" envDefault:"500"`
	// RenderSandbox is SandboxRequired or SandboxBestEffort.
	RenderSandbox string `env:"RENDER_SANDBOX" envDefault:"best-effort"`
	// RendererPath is the render program. Defaults to the file
	// photo-processor-render next to the running program.
	RendererPath string `env:"RENDERER_PATH"`

	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"text"`

	// MetricsAddr is the host and port of /metrics, and of a worker's /healthz
	// and /readyz; empty turns them off. They need no token: use a private
	// network.
	MetricsAddr string `env:"METRICS_ADDR"`
}

// Values of SourceURLsShown. Neither shows passwords.
const (
	SourceURLsRedacted = "redacted" // without the values of their query
	SourceURLsFull     = "full"
)

// slotsPerRender is how many photos a worker processes for each picture that it
// renders. With fewer, CPUs are idle while sources are fetched. With more, photos
// wait so long for the renderer that MakeThumbnails exceeds the time of a local
// activity, and then costs Temporal three times as much.
const slotsPerRender = 4

// Load parses the process's environment.
func Load() (Config, error) { return Parse(env.ToMap(os.Environ())) }

// Parse parses the variables. The error has all mistakes, one per line.
func Parse(variables map[string]string) (Config, error) {
	var cfg Config
	// Empty counts as unset: compose files cannot always leave a variable out.
	given := map[string]string{}
	for name, value := range variables {
		if value != "" {
			given[name] = value
		}
	}
	var mistakes []error
	err := env.ParseWithOptions(&cfg, env.Options{Environment: given, FuncMap: parsers})
	if all, ok := errors.AsType[env.AggregateError](err); ok {
		for _, one := range all.Errors {
			mistakes = append(mistakes, nameVariable(one))
		}
	} else if err != nil {
		mistakes = append(mistakes, err)
	}
	if err := cfg.setDefaults(); err != nil {
		mistakes = append(mistakes, err)
	}
	mistakes = append(mistakes, cfg.check(mistakes)...)
	if len(mistakes) > 0 {
		return Config{}, fmt.Errorf("configuration:\n%w", errors.Join(mistakes...))
	}
	return cfg, nil
}

// setDefaults sets the defaults that depend on other settings, and removes the
// slash that may end a URL.
func (c *Config) setDefaults() error {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	c.DataDir = dir
	if c.SourceCacheDir == "" {
		c.SourceCacheDir = filepath.Join(dir, "sources")
	}
	if c.ThumbnailsBucket == "" {
		c.ThumbnailsBucket = (&url.URL{Scheme: "file", Path: filepath.Join(dir, "thumbnails")}).String()
	}
	c.TemporalUIURL = strings.TrimRight(c.TemporalUIURL, "/")
	if c.RenderConcurrency == 0 {
		c.RenderConcurrency = runtime.GOMAXPROCS(0) // respects the CPU limit of a container
	}
	if c.WorkerPhotos == 0 {
		c.WorkerPhotos = min(max(slotsPerRender*c.RenderConcurrency, minWorkerPhotos), maxWorkerPhotos)
	}
	return nil
}

// parsers parse the types of package photo.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[photo.Box]():    func(text string) (any, error) { return photo.ParseBox(text) },
	reflect.TypeFor[photo.Format](): func(text string) (any, error) { return photo.ParseFormat(text) },
}

// nameVariable replaces the struct's field in the library's error by the
// variable.
func nameVariable(err error) error {
	parse, ok := errors.AsType[env.ParseError](err)
	if !ok {
		return err
	}
	field, ok := reflect.TypeFor[Config]().FieldByName(parse.Name)
	if !ok {
		return err
	}
	name := field.Tag.Get("env")
	switch field.Type {
	case reflect.TypeFor[[]netip.Prefix](): // the library's error is for programmers
		return fmt.Errorf("%s: must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas", name)
	case reflect.TypeFor[[]netip.AddrPort]():
		return fmt.Errorf("%s: must be addresses with ports such as 10.0.0.7:80 or [fd00::7]:80, separated by commas", name)
	case reflect.TypeFor[*url.URL](): // net/url's error quotes the URL, which may have a password
		return fmt.Errorf("%s: cannot be parsed as a URL", name)
	}
	return fmt.Errorf("%s: %w", name, parse.Err)
}
