package config_test

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// marker is a secret within the broken values of settings.
const marker = "hunter2"

// brokenValues hold the marker where a setting's secrets are: the password or a
// query value of a URL, or the whole value.
var brokenValues = []string{
	marker, "x " + marker, "short," + marker, marker + "\x7f", "\x00" + marker,
	"http://user:" + marker + "@host:port/", "http://user:" + marker + "%zz@host/", "http://user:" + marker + "@", "http://" + marker + "@[::1/",
	"://user:" + marker + "@host", "user:" + marker + "@host:3128", "ftp://user:" + marker + "@host/", "s3:" + marker,
	"http://host/?key=" + marker + "\n", "%zz?key=" + marker, "/bucket?key=" + marker, "s3://bucket:x?key=" + marker,
	"postgres://u:" + marker + "@h:x/d", "postgres://u:" + marker + "%zz@h/d", "host=h password=" + marker + " port=x",
	"host=h password=" + marker + " sslmode=maybe", "host=h password='" + marker, "password=a" + marker + " =",
	"postgres://h/d?password=" + marker + "&sslmode=maybe", "postgres://h/d?sslmode=verify-full&sslrootcert=/" + marker,
	"change-me-" + marker, "postgres://u:change-me-" + marker + "@h/d",
}

// quotable are the settings of text whose value an error may quote.
var quotable = map[string]bool{
	"HTTP_ADDR": true, "HTTP_ALLOWED_HOSTS": true, "METRICS_ADDR": true, "LOG_FORMAT": true, "RENDER_SANDBOX": true, "TASK_QUEUE": true, "WORKER_DEPLOYMENT": true,
}

// canHoldSecret reports whether an error must not quote the field's value: all
// text and URLs that quotable does not list, not numbers.
func canHoldSecret(field reflect.StructField) bool {
	switch field.Type {
	case reflect.TypeFor[string](), reflect.TypeFor[[]string](), reflect.TypeFor[*url.URL]():
		return !quotable[field.Tag.Get("env")]
	}
	return false
}

func TestMistakesContainNoSecrets(t *testing.T) {
	t.Parallel()
	rejected := map[string]bool{}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		if !canHoldSecret(field) {
			continue
		}
		name := field.Tag.Get("env")
		for _, value := range brokenValues {
			_, err := parse(t, map[string]string{name: value})
			if err != nil {
				rejected[name] = true
				require.ErrorContains(t, err, name+": ")
				require.NotContains(t, err.Error(), marker, name)
			}
		}
	}
	for _, name := range []string{"DATABASE_URL", "API_TOKEN", "SOURCE_PROXY", "THUMBNAILS_BUCKET"} {
		require.True(t, rejected[name], "%s accepts every broken value", name)
	}
}

// TestMistakesOfTemporalContainNoSecrets is not parallel, because it sets
// variables.
func TestMistakesOfTemporalContainNoSecrets(t *testing.T) {
	certificate, key := devstacktest.NewAuthority(t).Certificate(t, time.Now().Add(time.Hour))
	pem := "-----BEGIN PRIVATE KEY-----\n" + marker + "\n-----END PRIVATE KEY-----\n"
	file := func(content string) map[string]string {
		path := filepath.Join(t.TempDir(), "temporal.toml")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return map[string]string{"TEMPORAL_CONFIG_FILE": path}
	}
	tests := map[string]struct {
		variables map[string]string
		want      string
	}{
		"key without quotes": {file("[profile.default]\napi_key = " + marker + "\n"), "toml: line 2"},
		"key like a number":  {file("[profile.default]\napi_key = 7" + marker + "\n"), "toml: line 2"},
		"key like a date":    {file("[profile.default]\napi_key = 2026-01-01T" + marker + "\n"), "toml: line 2"},
		"key without end":    {file("[profile.default]\napi_key = \"" + marker + "\n"), "toml: line 2"},
		"key as a table":     {file("[profile.default.api_key]\n" + marker + " = 1\n"), "toml: line 1"},
		"escape in the key":  {file("[profile.default]\napi_key = \"\\" + marker + "\"\n"), "toml: line 2"},
		"key data":           {map[string]string{"TEMPORAL_TLS_CLIENT_CERT_DATA": pem, "TEMPORAL_TLS_CLIENT_KEY_DATA": pem}, "client cert/key data"},
		"key as a path":      {map[string]string{"TEMPORAL_TLS_CLIENT_CERT_PATH": certificate, "TEMPORAL_TLS_CLIENT_KEY_PATH": pem}, "TEMPORAL_TLS_CLIENT_KEY_PATH: must be the path of a file"},
		"key as a certificate's path": {map[string]string{"TEMPORAL_TLS_CLIENT_CERT_PATH": pem, "TEMPORAL_TLS_CLIENT_KEY_PATH": key},
			"TEMPORAL_TLS_CLIENT_CERT_PATH: must be the path of a file"},
		"key as the authorities' path": {map[string]string{"TEMPORAL_TLS_SERVER_CA_CERT_PATH": pem}, "TEMPORAL_TLS_SERVER_CA_CERT_PATH: must be the path of a file"},
		"authorities":                  {map[string]string{"TEMPORAL_TLS_SERVER_CA_CERT_DATA": marker}, "CA pool"},
	}
	for i, value := range brokenValues {
		if !strings.Contains(value, "\x00") { // which no variable can contain
			tests[fmt.Sprint("API key ", i)] = struct {
				variables map[string]string
				want      string
			}{map[string]string{"TEMPORAL_API_KEY": value, "TEMPORAL_TLS": "maybe"}, "TEMPORAL_TLS: must be true or false"}
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TEMPORAL_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
			for name, value := range test.variables {
				t.Setenv(name, value)
			}
			_, err := config.Temporal(slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), marker)
		})
	}
}
