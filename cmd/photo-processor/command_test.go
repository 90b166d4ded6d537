package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/exitcode"
)

// runCommand runs a command line and returns its exit code and output.
func runCommand(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = exitcode.Run(ctx, newRoot(), append([]string{}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"nonsense"}, {"help", "nonsense"}, {"--nonsense"},
		{"api", "x"}, {"api", "--nonsense"}, {"worker", "x"}, {"migrate", "x"}, {"version", "x"},
		{"health"}, {"health", "nonsense"}, {"health", "api", "worker"}, {"render"}, {"render", "a", "b", "c"},
		{"process"}, {"process", "--nonsense"}, {"process", "--watch=7"}, {"completion", "nonsense"},
		{"audit", "x"}, {"audit", "--list", "--photos"}, {"audit", "--min-age", "-1s"}, {"audit", "--min-age", "1"},
		{"process", "--output", "xml", "-"}, {"batches", "--output", ""}, {"photo", "--output", "yaml"}, {"audit", "--output", "JSON"}, {"version", "--output", "table"},
		{"process", "--failed", "--completed"}, {"process", "--failed", "--all-pending"}, {"process", "--completed", "--all-pending"},
		{"process", "--failed", "x"}, {"process", "--completed", "-"}, {"process", "--completed", "--code", "internal"}, {"process", "--failed", "--code", ""},
		{"process", "--code", "internal"}, {"process", "--all-pending", "--limit", "1"}, {"process", "--all-pending", "--created-before", "2026-01-01T00:00:00Z"},
		{"process", "--failed", "--limit", "0"}, {"process", "--failed", "--limit", "-1"}, {"process", "--failed", "--created-before", "yesterday"},
		{"batches", "x"}, {"batches", testBatchID, testBatchID}, {"batches", "--watch"}, {"batches", "--cancel"}, {"batches", "--limit", "0"}, {"batches", testBatchID, "--limit", "1"},
		{"photo"}, {"photo", "x"}, {"photo", testBatchID, testBatchID},
	} {
		code, stdout, stderr := runCommand(t.Context(), args...)
		require.Equal(t, exitcode.Usage, code, "%q", args)
		require.Empty(t, stdout, "%q", args)
		require.Regexp(t, `^photo-processor: .+\nSee photo-processor.* --help\.\n$`, stderr, "%q", args)
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"help", "process"}, {"version"}, {"version", "--output", "json"}, {"process", "--help"}, {"batches", "--help"}, {"photo", "--help"}} {
		code, stdout, stderr := runCommand(t.Context(), args...)
		require.Zero(t, code, "%q", args)
		require.NotEmpty(t, stdout)
		require.Empty(t, stderr)
	}
	_, stdout, _ := runCommand(t.Context(), "version", "--output", "json")
	require.JSONEq(t, fmt.Sprintf(`{"version":%q}`, programVersion()), stdout)
	_, _, stderr := runCommand(t.Context(), "process", "--output", "xml", "-")
	require.Contains(t, stderr, `invalid argument "xml" for "--output" flag: must be text or json`)
	_, _, stderr = runCommand(t.Context(), "process", "--failed", "--created-before", "2026-11-26")
	require.Contains(t, stderr, "must be a time with its zone, such as 2026-11-26T09:00:00Z")
	_, help, _ := runCommand(t.Context(), "--help")
	require.Contains(t, help, exitcode.Help)
}

func TestProcessExitCodes(t *testing.T) {
	t.Parallel()
	const id = "8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"
	for _, args := range [][]string{
		{"process", id}, {"process", id, "--watch"}, {"process", "--all-pending"}, {"process", "--failed", "--watch"},
		{"batches"}, {"batches", id}, {"batches", id, "--watch"}, {"batches", id, "--cancel"}, {"photo", id},
	} {
		code, _, stderr := runCommand(t.Context(), append(args, "--api", "http://127.0.0.1:1")...)
		require.Equal(t, exitcode.Unreachable, code)
		require.Contains(t, stderr, "the API cannot be reached")
	}
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	code, _, stderr := runCommand(t.Context(), "process", "--api", refusing.URL, id)
	require.Equal(t, exitcode.Failure, code)
	require.Contains(t, stderr, "answered 404")
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	code, _, stderr = runCommand(interrupted, "process", "--api", refusing.URL, id)
	require.Equal(t, exitcode.Interrupted, code)
	require.Equal(t, "photo-processor: interrupted\n", stderr)
}

// TestFatalErrorsAreJSON is not parallel, because it sets variables.
func TestFatalErrorsAreJSON(t *testing.T) {
	t.Setenv("LOG_FORMAT", "json")
	for name, test := range map[string]struct{ variable, value, want string }{
		"a wrong setting":     {"HTTP_MAX_PHOTOS", "nonsense", "HTTP_MAX_PHOTOS"},
		"a port that is used": {"METRICS_ADDR", "192.0.2.1:1", "METRICS_ADDR"},
	} {
		for _, command := range []string{"api", "worker"} {
			t.Run(name+", "+command, func(t *testing.T) {
				t.Setenv(test.variable, test.value)
				code, stdout, stderr := runCommand(t.Context(), command)
				require.Equal(t, exitcode.Failure, code)
				require.Empty(t, stdout)
				var last map[string]any
				for text := range strings.Lines(stderr) {
					last = nil
					require.NoError(t, json.Unmarshal([]byte(text), &last), "%s", text)
				}
				require.Equal(t, []any{"ERROR", "photo-processor exits", command}, []any{last["level"], last["msg"], last["command"]})
				require.Contains(t, last["error"], test.want)
			})
		}
	}
}
