package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/photo"
)

func parse(t *testing.T, variables map[string]string) (config.Config, error) {
	t.Helper()
	all := map[string]string{"DATA_DIR": "/data"}
	for name, value := range variables {
		all[name] = value
	}
	return config.Parse(all)
}

func TestDefaultsRunOnThisMachine(t *testing.T) {
	t.Parallel()
	cfg, err := parse(t, nil)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:3000", cfg.HTTPAddr, "reached from this machine alone")
	require.Equal(t, "photo-processor", cfg.TaskQueue)
	require.Equal(t, []photo.Box{{Width: 320, Height: 320}}, cfg.ThumbnailSizes)
	require.Equal(t, photo.JPEG, cfg.ThumbnailFormat)
	require.Equal(t, "/data/sources", cfg.SourceCacheDir)
	require.Equal(t, "file:///data/thumbnails", cfg.ThumbnailsBucket)
	require.Equal(t, "postgres://photos@127.0.0.1:5432/photos", cfg.DatabaseURL)
	require.Empty(t, cfg.SourceAllowCIDRs)
	require.Empty(t, cfg.MetricsAddr, "several workers on one machine would want the same port")
}

// TestRenderConcurrencyFollowsTheCPULimit sets GOMAXPROCS as the runtime does in
// a container with a CPU limit. It is not parallel, because GOMAXPROCS is the
// whole process's.
func TestRenderConcurrencyFollowsTheCPULimit(t *testing.T) {
	before := runtime.GOMAXPROCS(runtime.NumCPU() + 3)
	defer runtime.GOMAXPROCS(before)
	cfg, err := parse(t, nil)
	require.NoError(t, err)
	require.Equal(t, runtime.NumCPU()+3, cfg.RenderConcurrency)
	require.Equal(t, 4*cfg.RenderConcurrency, cfg.WorkerPhotos)
}

func TestWorkerPhotosFollowsRenderConcurrency(t *testing.T) {
	t.Parallel()
	for renders, photos := range map[string]int{"1": 4, "3": 12, "1000": 1000} {
		cfg, err := parse(t, map[string]string{"RENDER_CONCURRENCY": renders})
		require.NoError(t, err)
		require.Equal(t, photos, cfg.WorkerPhotos)
	}
	cfg, err := parse(t, map[string]string{"RENDER_CONCURRENCY": "3", "WORKER_PHOTOS": "50"})
	require.NoError(t, err)
	require.Equal(t, 50, cfg.WorkerPhotos)
}

func TestValues(t *testing.T) {
	t.Parallel()
	cfg, err := parse(t, map[string]string{
		"THUMBNAIL_SIZES":    "320x320,1024X768:fit,96x96:cover,1200x630:cover-centre",
		"THUMBNAIL_FORMAT":   "WebP",
		"SOURCE_ALLOW_CIDRS": "10.0.0.0/8,fd00::/8",
		"SOURCE_TIMEOUT":     "90s",
		"LOG_LEVEL":          "debug",
		"RENDER_CONCURRENCY": "", // counts as unset
	})
	require.NoError(t, err)
	require.Equal(t, []photo.Box{{Width: 320, Height: 320}, {Width: 1024, Height: 768},
		{Width: 96, Height: 96, Mode: photo.Cover}, {Width: 1200, Height: 630, Mode: photo.CoverCentre}}, cfg.ThumbnailSizes)
	require.Equal(t, photo.WebP, cfg.ThumbnailFormat)
	require.Len(t, cfg.SourceAllowCIDRs, 2)
	require.Positive(t, cfg.RenderConcurrency)
}

func TestMistakesAreReportedAtOnceByName(t *testing.T) {
	t.Parallel()
	t.Run("what cannot be read", func(t *testing.T) {
		t.Parallel()
		_, err := parse(t, map[string]string{
			"THUMBNAIL_SIZES": "320", "THUMBNAIL_FORMAT": "bmp", "SOURCE_TIMEOUT": "soon", "SOURCE_ALLOW_CIDRS": "10.0.0.0/99",
			"HTTP_MAX_PHOTOS": "many", "LOG_LEVEL": "loud",
		})
		for _, name := range []string{"THUMBNAIL_SIZES", "THUMBNAIL_FORMAT", "SOURCE_TIMEOUT", "SOURCE_ALLOW_CIDRS", "HTTP_MAX_PHOTOS", "LOG_LEVEL"} {
			require.ErrorContains(t, err, name+": ")
		}
	})
	t.Run("both kinds", func(t *testing.T) {
		t.Parallel()
		_, err := parse(t, map[string]string{
			"THUMBNAIL_QUALITY": "300", "HTTP_ADDR": "bar", "WORKER_ACTIVITIES": "-1", "SOURCE_ALLOW_CIDRS": "1.2.3", "SOURCE_TIMEOUT": "soon",
		})
		require.ErrorContains(t, err, "SOURCE_ALLOW_CIDRS: must be networks such as 10.0.0.0/8")
		_, portMissing := parse(t, map[string]string{"SOURCE_ALLOW_ADDRESSES": "127.0.0.1"})
		require.ErrorContains(t, portMissing, "SOURCE_ALLOW_ADDRESSES: must be addresses with ports such as 10.0.0.7:80")
		for _, name := range []string{"THUMBNAIL_QUALITY", "HTTP_ADDR", "WORKER_ACTIVITIES", "SOURCE_TIMEOUT"} {
			require.Equal(t, 1, strings.Count(err.Error(), name+": "), name)
		}
		require.NotContains(t, err.Error(), "SOURCE_CONNECT_TIMEOUT")
	})
	t.Run("what is out of range", func(t *testing.T) {
		t.Parallel()
		wrong := map[string]string{
			"HTTP_ADDR": "3000", "DATABASE_URL": "postgres://u:hunter2@h:x/d", "THUMBNAIL_QUALITY": "101", "SOURCE_MAX_BYTES": "0",
			"SOURCE_TIMEOUT": "1h", "BUCKET_TIMEOUT": "3m", "RENDER_CONCURRENCY": "-1", "RENDER_MAX_MEMORY": "1000000", "RENDER_MAX_PICTURES": "0", "RENDER_SANDBOX": "off", "LOG_FORMAT": "xml", "THUMBNAILS_BUCKET": "/var/thumbs",
			"TASK_QUEUE": " ", "HTTP_MAX_BODY_BYTES": "-5", "SOURCE_PROXY": "ftp://x", "METRICS_ADDR": "9090",
		}
		_, err := parse(t, wrong)
		for name := range wrong {
			require.ErrorContains(t, err, name+": ")
		}
		require.ErrorContains(t, err, "must be from 1 to 100, not 101", "the limit and the value")
		require.NotContains(t, err.Error(), "hunter2")
	})
}

func TestThumbnailSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"320x320,96x96:crop":             `THUMBNAIL_SIZES: box "96x96:crop": the mode must be one of fit, cover, cover-centre, not "crop"`,
		"96x96:cover,96x96:cover-centre": "THUMBNAIL_SIZES: 96x96 is given twice, as cover and as cover-centre",
		"96x96,320x320,96x96:cover":      "THUMBNAIL_SIZES: 96x96 is given twice, as fit and as cover",
	} {
		_, err := parse(t, map[string]string{"THUMBNAIL_SIZES": text})
		require.ErrorContains(t, err, want)
	}
	_, err := parse(t, map[string]string{"THUMBNAIL_SIZES": "96x96,96x96:fit"})
	require.NoError(t, err, "a repetition changes nothing")
}

func TestAnAPIThatOthersReachNeedsAToken(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	for _, addr := range []string{"0.0.0.0:3000", ":3000", "[::]:3000", "192.0.2.1:3000", "api.example:3000"} {
		_, err := parse(t, map[string]string{"HTTP_ADDR": addr})
		require.ErrorContains(t, err, "API_TOKEN: ", addr)
		_, err = parse(t, map[string]string{"HTTP_ADDR": addr, "API_TOKEN": token})
		require.NoError(t, err)
		_, err = parse(t, map[string]string{"HTTP_ADDR": addr, "API_ALLOW_ANONYMOUS": "true"})
		require.NoError(t, err)
	}
	for _, addr := range []string{"127.0.0.1:3000", "localhost:3000", "[::1]:3000", "127.8.8.8:0"} {
		_, err := parse(t, map[string]string{"HTTP_ADDR": addr})
		require.NoError(t, err, addr)
	}
	cfg, err := parse(t, map[string]string{"API_TOKEN": token + "1," + token + "2"})
	require.NoError(t, err)
	require.Equal(t, []string{token + "1", token + "2"}, cfg.APITokens)
	for _, bad := range []string{"short", token + ",", token + " and spaces"} {
		_, err := parse(t, map[string]string{"API_TOKEN": bad})
		require.ErrorContains(t, err, "at least 16 characters")
		require.NotContains(t, err.Error(), token)
	}
}

func TestPlaceholdersAreRejected(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]string{
		"API_TOKEN": {"change-me-to-something-random", "0123456789abcdef,change-me-to-something-random"},
		"DATABASE_URL": {
			"postgres://photos:change-me@db/photos", "postgres://photos:change-me-too@db/photos?sslmode=disable",
			"host=db user=photos password=change-me", "postgres://photos:change%2Dme@db/photos",
		},
	} {
		for _, value := range values {
			_, err := parse(t, map[string]string{name: value})
			require.ErrorContains(t, err, name+": ")
			require.ErrorContains(t, err, "is a placeholder (change-me…); replace it")
			for _, secret := range []string{"something", "too", "0123456789abcdef"} {
				require.NotContains(t, err.Error(), secret)
			}
		}
	}
	_, err := parse(t, map[string]string{"DATABASE_URL": "postgres://change-me@db/change-me", "API_TOKEN": "do-not-change-me-please"})
	require.NoError(t, err)
}

func TestFilesOfTheDatabaseURL(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, []byte("replace this"), 0o600))
	for file, want := range map[string]string{
		"/nowhere/ca.pem": "DATABASE_URL: a file that it names (sslrootcert, sslcert, sslkey) cannot be read: no such file or directory",
		empty:             "DATABASE_URL: the file sslrootcert contains no certificate",
	} {
		_, err := parse(t, map[string]string{"DATABASE_URL": "postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=" + file})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// TestConfigurationIsDocumented compares docs/configuration.md with Config.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = strings.Trim(strings.TrimSpace(row[2]), "`")
	}
	params, err := env.GetFieldParams(&config.Config{})
	require.NoError(t, err)
	for _, p := range params {
		shown, ok := documented[p.Key]
		require.True(t, ok, "docs/configuration.md lacks %s", p.Key)
		if p.HasDefaultValue && p.DefaultValue != "0" { // the page describes what 0 means
			require.Equal(t, p.DefaultValue, shown, "docs/configuration.md: the default of %s", p.Key)
		}
		delete(documented, p.Key)
	}
	for name := range documented {
		require.True(t, strings.HasPrefix(name, "TEMPORAL_") || strings.HasPrefix(name, "DEV_") || strings.HasPrefix(name, "OTEL_") || name == "API_URL" || name == "WORKERS" || name == "POSTGRES_BIN",
			"docs/configuration.md: %s is no variable of photo-processor", name)
	}
}

// TestEveryFieldHasAVariable guards against a field without a tag.
func TestEveryFieldHasAVariable(t *testing.T) {
	t.Parallel()
	for field := range reflect.TypeFor[config.Config]().Fields() {
		require.NotEmpty(t, field.Tag.Get("env"), field.Name)
	}
}

func TestTemporalUIURL(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{"": "", "https://temporal.example": "https://temporal.example", "http://127.0.0.1:8080/ui/": "http://127.0.0.1:8080/ui"} {
		cfg, err := parse(t, map[string]string{"TEMPORAL_UI_URL": given})
		require.NoError(t, err)
		require.Equal(t, want, cfg.TemporalUIURL)
	}
	for _, wrong := range []string{"temporal.example", "ftp://temporal.example", "https://alice:hunter2@temporal.example", "https://", "https://temporal.example/?a=b", "https://temporal.example/#a", "javascript:alert(1)"} {
		_, err := parse(t, map[string]string{"TEMPORAL_UI_URL": wrong})
		require.ErrorContains(t, err, "TEMPORAL_UI_URL: must be an http or https URL", wrong)
	}
}
