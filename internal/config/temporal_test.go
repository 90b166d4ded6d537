package config_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// connect waits for Temporal with the variables.
func connect(ctx context.Context, t *testing.T, variables map[string]string, log *slog.Logger) error {
	t.Helper()
	t.Setenv("TEMPORAL_CONFIG_FILE", filepath.Join(t.TempDir(), "none")) // not the developer's
	for name, value := range variables {
		t.Setenv(name, value)
	}
	options, err := config.Temporal(log)
	if err != nil {
		return err
	}
	temporal, err := client.NewLazyClient(options)
	require.NoError(t, err)
	defer temporal.Close()
	return config.WaitForTemporal(ctx, log, temporal, options)
}

func TestTemporalIsReachedAsItsVariablesSay(t *testing.T) {
	plain, stop, err := devstacktest.Temporal(t.Context())
	require.NoError(t, err)
	defer stop()
	const apiKey = "key-0123456789"
	ours, theirs := devstacktest.NewAuthority(t), devstacktest.NewAuthority(t)
	mutual := devstacktest.SecureTemporal{Authority: ours, Clients: ours}.Start(t, plain)
	keyed := devstacktest.SecureTemporal{Authority: ours, APIKey: apiKey}.Start(t, plain)
	expired := devstacktest.SecureTemporal{Authority: ours, NotAfter: time.Now().Add(-time.Hour)}.Start(t, plain)

	certificate, key := ours.Certificate(t, time.Now().Add(time.Hour))
	oldCertificate, oldKey := ours.Certificate(t, time.Now().Add(-time.Hour))
	strangeCertificate, strangeKey := theirs.Certificate(t, time.Now().Add(time.Hour))
	read := func(file string) string {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(content)
	}
	profiles := filepath.Join(t.TempDir(), "temporal.toml")
	require.NoError(t, os.WriteFile(profiles, fmt.Appendf(nil, `
[profile.cloud]
address = %q
namespace = "default"
[profile.cloud.tls]
client_cert_path = %q
client_key_path = %q
server_ca_cert_path = %q
[profile.key]
address = %q
api_key = %q
[profile.key.tls]
server_ca_cert_path = %q
`, mutual, certificate, key, ours.File, keyed, apiKey, ours.File), 0o600))

	for name, test := range map[string]struct {
		variables map[string]string
		want      string // in the error; "" for success
	}{
		"without TLS": {map[string]string{"TEMPORAL_ADDRESS": plain}, ""},
		"variables that are set to nothing": {map[string]string{
			"TEMPORAL_ADDRESS": plain, "TEMPORAL_TLS": "", "TEMPORAL_TLS_CLIENT_CERT_PATH": "", "TEMPORAL_TLS_CLIENT_KEY_PATH": "",
			"TEMPORAL_API_KEY": "", "TEMPORAL_NAMESPACE": "", "TEMPORAL_PROFILE": "",
		}, ""},
		"mTLS": {map[string]string{
			"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File,
			"TEMPORAL_TLS_CLIENT_CERT_PATH": certificate, "TEMPORAL_TLS_CLIENT_KEY_PATH": key,
		}, ""},
		"mTLS by values": {map[string]string{
			"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_DATA": read(ours.File),
			"TEMPORAL_TLS_CLIENT_CERT_DATA": read(certificate), "TEMPORAL_TLS_CLIENT_KEY_DATA": read(key),
		}, ""},
		"mTLS by a profile": {map[string]string{"TEMPORAL_CONFIG_FILE": profiles, "TEMPORAL_PROFILE": "cloud"}, ""},
		"an API key": {map[string]string{
			"TEMPORAL_ADDRESS": keyed, "TEMPORAL_API_KEY": apiKey, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File,
		}, ""},
		"an API key by a profile": {map[string]string{"TEMPORAL_CONFIG_FILE": profiles, "TEMPORAL_PROFILE": "key"}, ""},

		"no such namespace": {map[string]string{"TEMPORAL_ADDRESS": plain, "TEMPORAL_NAMESPACE": "nobodys"},
			`it has no namespace "nobodys"; create it, or set TEMPORAL_NAMESPACE`},
		"no such profile": {map[string]string{"TEMPORAL_CONFIG_FILE": profiles, "TEMPORAL_PROFILE": "nobodys"}, "unable to find profile nobodys"},
		"a refused key": {map[string]string{
			"TEMPORAL_ADDRESS": keyed, "TEMPORAL_API_KEY": "wrong", "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File,
		}, "access is denied; check TEMPORAL_API_KEY"},
		"no key": {map[string]string{"TEMPORAL_ADDRESS": keyed, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File},
			"access is denied; check TEMPORAL_API_KEY"},
		"no certificate": {map[string]string{"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File},
			"it rejects the client's certificate; check TEMPORAL_TLS_CLIENT_CERT_PATH"},
		"a certificate of somebody else's": {map[string]string{
			"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File,
			"TEMPORAL_TLS_CLIENT_CERT_PATH": strangeCertificate, "TEMPORAL_TLS_CLIENT_KEY_PATH": strangeKey,
		}, "it rejects the client's certificate; check TEMPORAL_TLS_CLIENT_CERT_PATH"},
		"an expired certificate": {map[string]string{
			"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File,
			"TEMPORAL_TLS_CLIENT_CERT_PATH": oldCertificate, "TEMPORAL_TLS_CLIENT_KEY_PATH": oldKey,
		}, "TEMPORAL_TLS_CLIENT_CERT_PATH (or _DATA): the client's certificate has expired on 20"},
		"a server's certificate that has expired": {map[string]string{"TEMPORAL_ADDRESS": expired, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ours.File},
			"its certificate is not trusted"},
		"a server of somebody else's": {map[string]string{"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": theirs.File},
			"its certificate is not trusted; check TEMPORAL_TLS_SERVER_CA_CERT_PATH"},
		"a server without TLS": {map[string]string{"TEMPORAL_ADDRESS": plain, "TEMPORAL_TLS": "true"}, "it does not use TLS; check TEMPORAL_TLS"},
		"a file that is not there": {map[string]string{"TEMPORAL_ADDRESS": mutual, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nowhere"},
			"open /nowhere: no such file or directory"},
		"a switch that is none": {map[string]string{"TEMPORAL_ADDRESS": plain, "TEMPORAL_TLS": "yes"}, `TEMPORAL_TLS: must be true or false, not "yes"`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := connect(ctx, t, test.variables, slog.New(slog.NewTextHandler(&log, nil)))
			require.NoError(t, ctx.Err(), "it waited: %s", &log)
			if !strings.Contains(test.want, "rejects the client's") { // its alert may come after a failed write
				require.Empty(t, log.String(), "one line is enough")
			}
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), apiKey)
		})
	}

	t.Run("waits for a server that is away", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		log := writerFunc(func(line []byte) (int, error) {
			if strings.Contains(string(line), "waiting for Temporal") {
				cancel() // stopped while it waits
			}
			return len(line), nil
		})
		require.NoError(t, connect(ctx, t, map[string]string{"TEMPORAL_ADDRESS": "127.0.0.1:1"}, slog.New(slog.NewTextHandler(log, nil))))
		require.Error(t, ctx.Err())
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
