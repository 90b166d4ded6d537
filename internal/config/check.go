package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/internal/webhook"
)

const (
	// maxStepTimeout is much less than the 30 minutes of one attempt at
	// FetchSource or MakeThumbnails, which also waits for its turn and stores
	// the result.
	maxStepTimeout = 5 * time.Minute
	// maxBucketTimeout leaves the 5 minutes of one attempt at Finish time for
	// more than one request.
	maxBucketTimeout = 2 * time.Minute

	maxBoxes = 16

	// The SDK refuses 1 slot: each slot has one poller, and a single one would
	// poll the sticky queue only.
	minWorkerPhotos, maxWorkerPhotos = 2, 1000
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
	checkRange("WORKER_PHOTOS", int64(c.WorkerPhotos), minWorkerPhotos, maxWorkerPhotos)
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
	checkDuration("BUCKET_TIMEOUT", c.BucketTimeout, time.Second, maxBucketTimeout)
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

// isLoopback reports whether only this machine can reach a listener on the
// host.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

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
