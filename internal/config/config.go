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
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/webhook"
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
	// WorkerPhotos is how many photos one worker processes concurrently: its
	// slots for workflow tasks. Photos that need regular activities do not
	// occupy one.
	WorkerPhotos int `env:"WORKER_PHOTOS" envDefault:"16"`
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

const (
	// maxStepTimeout is much less than the 30 minutes of one attempt at
	// FetchSource or MakeThumbnails, which also waits for its turn and stores
	// the result.
	maxStepTimeout = 5 * time.Minute
	maxBoxes       = 16
	// maxPhotos UUIDs, the input of one workflow, are half of the 2 MB that
	// Temporal's server accepts.
	maxPhotos = 50_000

	// minHTTPMemory is enough for a page of a list.
	minHTTPMemory = 4 << 20
	// minTokenBytes makes tokens hard to guess: 16 random characters are 95
	// bits.
	minTokenBytes = 16
	// placeholder begins the secrets in the examples of docs/kubernetes.
	placeholder = "change-me"
)

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
	return nil
}

// check returns the settings that are out of range, without those that could
// not be parsed.
func (c *Config) check(unparsed []error) (mistakes []error) {
	wrong := func(name, format string, args ...any) {
		isSame := func(err error) bool { return strings.HasPrefix(err.Error(), name+": ") }
		if !slices.ContainsFunc(unparsed, isSame) {
			mistakes = append(mistakes, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
		}
	}
	checkRange := func(name string, value, low, high int64) {
		if value < low || value > high {
			wrong(name, "must be from %d to %d, not %d", low, high, value)
		}
	}
	checkDuration := func(name string, value, low, high time.Duration) {
		if value < low || value > high {
			wrong(name, "must be from %s to %s, not %s", low, high, value)
		}
	}
	if database, err := pgxpool.ParseConfig(c.DatabaseURL); err != nil {
		wrong("DATABASE_URL", "%s", explainDatabaseURL(err))
	} else if isPlaceholder(database.ConnConfig.Password) {
		wrong("DATABASE_URL", "the password is a placeholder (%s…); replace it", placeholder)
	}
	checkRange("DATABASE_MAX_CONNS", int64(c.DatabaseMaxConns), 1, 1000)
	if host, _, err := net.SplitHostPort(c.HTTPAddr); err != nil {
		wrong("HTTP_ADDR", "must be HOST:PORT, not %q", c.HTTPAddr)
	} else if !isLoopback(host) && len(c.APITokens) == 0 && !c.APIAllowAnonymous {
		wrong("API_TOKEN", "is required to listen on %s, which other machines can reach; or set API_ALLOW_ANONYMOUS=true", c.HTTPAddr)
	}
	for _, host := range c.HTTPAllowedHosts {
		if host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, ":/*? ") {
			wrong("HTTP_ALLOWED_HOSTS", "must be names in lower case, without a port, not %q", host)
		}
	}
	for _, origin := range c.HTTPCORSOrigins {
		if parsed, err := url.Parse(origin); err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" ||
			origin != strings.ToLower(parsed.Scheme+"://"+parsed.Host) || strings.Contains(origin, "*") {
			wrong("HTTP_CORS_ORIGINS", "must be origins such as https://example.com, in lower case, without a path or *")
		}
	}
	for _, token := range c.APITokens {
		if isPlaceholder(token) {
			wrong("API_TOKEN", "a token is a placeholder (%s…); replace it", placeholder)
		}
		if len(token) < minTokenBytes || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			wrong("API_TOKEN", "a token must have at least %d characters, all of them visible ASCII", minTokenBytes)
		}
	}
	checkRange("HTTP_MAX_BODY_BYTES", c.HTTPMaxBodyBytes, 1, 1<<30)
	checkRange("HTTP_MAX_URLS_BYTES", c.HTTPMaxURLsBytes, 1, 1<<30)
	if least := max(c.HTTPMaxBodyBytes, c.HTTPMaxURLsBytes, minHTTPMemory); c.HTTPMaxMemory < least {
		wrong("HTTP_MAX_MEMORY", "must be at least %d, the largest of HTTP_MAX_BODY_BYTES, HTTP_MAX_URLS_BYTES and %d, not %d", least, minHTTPMemory, c.HTTPMaxMemory)
	}
	checkRange("HTTP_MAX_PHOTOS", int64(c.HTTPMaxPhotos), 1, maxPhotos)
	checkDuration("HTTP_TIMEOUT", c.HTTPTimeout, time.Second, time.Hour)
	checkRange("START_DIRECTLY", int64(c.StartDirectly), 0, 10_000)
	checkRange("START_CONCURRENCY", int64(c.StartConcurrency), 1, 1000)
	if receiver, err := url.Parse(c.WebhookURL); c.WebhookURL != "" && (err != nil || receiver.Host == "" || receiver.Scheme != "http" && receiver.Scheme != "https") {
		wrong("WEBHOOK_URL", "must be an http or https URL")
	}
	if (c.WebhookURL == "") != (len(c.WebhookSecrets) == 0) {
		wrong("WEBHOOK_SECRET", "WEBHOOK_URL and WEBHOOK_SECRET must be set together")
	}
	for _, secret := range c.WebhookSecrets {
		if err := webhook.CheckSecret(secret); err != nil {
			wrong("WEBHOOK_SECRET", "a secret %s; this makes one: echo whsec_$(openssl rand -base64 32)", err)
		}
	}
	checkDuration("WEBHOOK_TIMEOUT", c.WebhookTimeout, time.Second, 5*time.Minute)
	checkDuration("BATCH_RETENTION", c.BatchRetention, time.Hour, 10*365*24*time.Hour)
	checkDuration("EVENTS_INTERVAL", c.EventsInterval, 100*time.Millisecond, time.Minute)
	checkRange("HTTP_MAX_WATCHERS", int64(c.HTTPMaxWatchers), 0, 100_000)
	checkDuration("SHUTDOWN_TIMEOUT", c.ShutdownTimeout, time.Second, time.Hour)
	if strings.TrimSpace(c.TaskQueue) != c.TaskQueue || c.TaskQueue == "" {
		wrong("TASK_QUEUE", "must be a name without spaces around it, not %q", c.TaskQueue)
	}
	checkRange("WORKER_PHOTOS", int64(c.WorkerPhotos), 2, 1000) // the SDK refuses 1: each slot has one poller, and a single one would poll the sticky queue only
	checkRange("WORKER_ACTIVITIES", int64(c.WorkerActivities), 1, 10_000)
	if strings.ContainsAny(c.WorkerDeployment, ". \t") { // Temporal writes a version as DEPLOYMENT.BUILD_ID
		wrong("WORKER_DEPLOYMENT", "must be a name without dots and spaces, not %q", c.WorkerDeployment)
	}
	checkDuration("DEPENDENCY_INTERVAL", c.DependencyInterval, time.Second, time.Hour)
	checkDuration("RECONCILE_INTERVAL", c.ReconcileInterval, 10*time.Second, 24*time.Hour)
	checkRange("SOURCE_CACHE_MEMORY", c.SourceCacheMemory, 0, 1<<40)
	checkRange("SOURCE_CACHE_DISK", c.SourceCacheDisk, max(0, c.SourceMaxBytes), 1<<50) // a source must fit
	checkDuration("SOURCE_CACHE_MAX_AGE", c.SourceCacheMaxAge, 10*time.Second, 24*time.Hour)
	if u, err := url.Parse(c.ThumbnailsBucket); err != nil || u.Scheme == "" {
		wrong("THUMBNAILS_BUCKET", "must be a bucket's URL, such as file:///var/lib/thumbnails")
	}
	checkDuration("BUCKET_TIMEOUT", c.BucketTimeout, time.Second, maxStepTimeout)
	checkRange("THUMBNAIL_SIZES", int64(len(c.ThumbnailSizes)), 1, maxBoxes)
	modes := map[photo.Size]photo.Mode{}
	for _, box := range c.ThumbnailSizes {
		if mode, ok := modes[box.Size()]; ok && mode != box.Mode {
			wrong("THUMBNAIL_SIZES", "%s is given twice, as %s and as %s; a photo has one thumbnail of each size", box.Size(), mode, box.Mode)
		}
		modes[box.Size()] = box.Mode
	}
	checkRange("THUMBNAIL_QUALITY", int64(c.ThumbnailQuality), 1, 100)

	checkRange("SOURCE_MAX_BYTES", c.SourceMaxBytes, 1, 1<<31)
	checkDuration("SOURCE_TIMEOUT", c.SourceTimeout, time.Second, maxStepTimeout)
	longest := c.SourceTimeout
	if longest <= 0 { // reported above
		longest = maxStepTimeout
	}
	checkDuration("SOURCE_CONNECT_TIMEOUT", c.SourceConnectTimeout, time.Millisecond, longest)
	checkDuration("SOURCE_HEADER_TIMEOUT", c.SourceHeaderTimeout, time.Millisecond, longest)
	checkRange("SOURCE_MAX_HEADER_BYTES", c.SourceMaxHeaderBytes, 1024, 1<<20)
	checkRange("SOURCE_MAX_REDIRECTS", int64(c.SourceMaxRedirects), 0, 20)
	checkRange("SOURCE_MIN_BYTES_PER_SECOND", c.SourceMinBytesPerSecond, 1, 1<<30)
	checkDuration("SOURCE_MAX_RETRY_AFTER", c.SourceMaxRetryAfter, time.Second, 24*time.Hour)
	checkRange("SOURCE_HOST_CONCURRENCY", int64(c.SourceHostConcurrency), 1, 10_000)
	checkRange("SOURCE_MAX_WAITING", int64(c.SourceMaxWaiting), 1, 10_000)
	checkDuration("SOURCE_MAX_HOST_WAIT", c.SourceMaxHostWait, time.Millisecond, time.Hour)
	if c.SourceProxy != nil && (c.SourceProxy.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, c.SourceProxy.Scheme)) {
		wrong("SOURCE_PROXY", "must be an http, https or socks5 URL with a host")
	}
	if u, err := url.Parse(c.TemporalUIURL); c.TemporalUIURL != "" &&
		(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		wrong("TEMPORAL_UI_URL", "must be an http or https URL without a user, a query and a fragment, such as https://temporal.example.com")
	}
	if !slices.Contains([]string{SourceURLsRedacted, SourceURLsFull}, c.SourceURLsShown) {
		wrong("SOURCE_URLS_SHOWN", "must be %s or %s", SourceURLsRedacted, SourceURLsFull)
	}
	checkRange("IMAGE_MAX_PIXELS", c.ImageMaxPixels, 1, 1<<33)
	checkRange("IMAGE_MAX_FRAMES", int64(c.ImageMaxFrames), 1, 1_000_000)
	checkRange("RENDER_CONCURRENCY", int64(c.RenderConcurrency), 1, 1000)
	checkDuration("RENDER_TIMEOUT", c.RenderTimeout, time.Second, maxStepTimeout)
	checkRange("RENDER_MAX_MEMORY", c.RenderMaxMemory, renderer.MinMaxMemory, 1<<40)
	checkRange("RENDER_MAX_PICTURES", int64(c.RenderMaxPictures), 1, 1_000_000_000)
	if !slices.Contains([]string{SandboxRequired, SandboxBestEffort}, c.RenderSandbox) {
		wrong("RENDER_SANDBOX", "must be %s or %s, not %q", SandboxRequired, SandboxBestEffort, c.RenderSandbox)
	}

	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		wrong("LOG_FORMAT", "must be text or json, not %q", c.LogFormat)
	}
	if _, _, err := net.SplitHostPort(c.MetricsAddr); c.MetricsAddr != "" && err != nil {
		wrong("METRICS_ADDR", "must be HOST:PORT, not %q", c.MetricsAddr)
	}
	slices.SortFunc(mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return mistakes
}

// isPlaceholder reports whether the secret is a placeholder of docs/kubernetes,
// which is public.
func isPlaceholder(secret string) bool { return strings.HasPrefix(secret, placeholder) }

// explainDatabaseURL says what is wrong with DATABASE_URL without pgx's error,
// which may quote the password.
func explainDatabaseURL(err error) string {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Sprintf("a file that it names (sslrootcert, sslcert, sslkey) cannot be read: %s", file.Err)
	}
	if strings.Contains(err.Error(), "unable to add CA to cert pool") { // pgx has no type for it
		return "the file sslrootcert contains no certificate"
	}
	return "is not a PostgreSQL connection string"
}

// isLoopback reports whether only this machine can reach a listener on the
// host.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
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
