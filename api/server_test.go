package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

// serve runs the API as the program does, until stop is called. The channel
// receives the result of api.Run.
func serve(t *testing.T, databaseURL string, variables ...string) (address string, stop func(), ended <-chan error) {
	t.Helper()
	return serveWithLog(t, io.Discard, databaseURL, variables...)
}

func serveWithLog(t *testing.T, log io.Writer, databaseURL string, variables ...string) (address string, stop func(), ended <-chan error) {
	t.Helper()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	environment := map[string]string{
		"DATA_DIR": t.TempDir(), "DATABASE_URL": databaseURL, "HTTP_ADDR": fmt.Sprintf("127.0.0.1:%d", port),
	}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		environment[name] = value
	}
	cfg, err := config.Parse(environment)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx, cfg, slog.New(slog.NewTextHandler(log, nil))) }()
	require.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get("http://" + cfg.HTTPAddr + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 30*time.Second, 10*time.Millisecond)
	return cfg.HTTPAddr, cancel, done
}

func await(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the API does not stop")
	}
}

func TestShutdownFinishesRequestsInFlight(t *testing.T) {
	t.Parallel()
	address, stop, ended := serve(t, postgrestest.URL(t))
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	const body = `{"url":"https://photos.example/1.jpg"}`
	// "100 Continue" says that the handler waits for the body.
	_, err = fmt.Fprintf(conn, "POST /photos HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")

	stop()
	require.Eventually(t, func() bool { // it accepts no new connections
		other, err := net.Dial("tcp", address)
		if err == nil {
			_ = other.Close()
		}
		return err != nil
	}, 30*time.Second, 10*time.Millisecond)
	_, err = io.WriteString(conn, body)
	require.NoError(t, err)
	_, err = reader.ReadString('\n') // the end of 100 Continue
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/photos", nil)
	require.NoError(t, err)
	resp, err := http.ReadResponse(reader, req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	added, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	requireDocumented(t, resp, added)
	await(t, ended)
}

func TestStartsWithoutPostgres(t *testing.T) {
	t.Parallel()
	address, stop, ended := serve(t, "postgres://photos@127.0.0.1:1/photos")
	resp, err := devstacktest.HTTPClient.Get("http://" + address + "/photos/pending")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	requireDocumented(t, resp, body)
	stop()
	await(t, ended)
}

// lockPhotos blocks every statement on the table until the test ends.
func lockPhotos(t *testing.T, databaseURL string) {
	t.Helper()
	_, err := connect(t, databaseURL).Exec(t.Context(), `BEGIN; LOCK TABLE photos`)
	require.NoError(t, err)
}

func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// awaitBlocked waits until n statements of the database wait for a lock.
func awaitBlocked(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var blocked int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&blocked)
		return err == nil && blocked == n
	}, 30*time.Second, 10*time.Millisecond)
}

// TestRequestsThatAreGivenUp gives up a request that waits for PostgreSQL, as a
// client and as a server that stops. The log tells them apart.
func TestRequestsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	databaseURL := postgrestest.URL(t)
	var log lockedBuffer
	address, stop, ended := serveWithLog(t, &log, databaseURL, "SHUTDOWN_TIMEOUT=1s")
	lockPhotos(t, databaseURL)
	observer := connect(t, databaseURL)

	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/photos/pending", nil)
		if err == nil {
			_, err = devstacktest.HTTPClient.Do(req)
		}
		left <- err
	}()
	awaitBlocked(t, observer, 1)
	leave()
	require.ErrorIs(t, <-left, context.Canceled)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "path=/photos/pending status=499") }, 30*time.Second, 10*time.Millisecond)
	require.NotContains(t, log.String(), "request failed")
	awaitBlocked(t, observer, 0)

	type result struct {
		resp *http.Response
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		resp, err := devstacktest.HTTPClient.Get("http://" + address + "/photos/failed")
		answered <- result{resp, err}
	}()
	awaitBlocked(t, observer, 1)
	stop()
	answer := <-answered
	require.NoError(t, answer.err)
	defer answer.resp.Body.Close()
	body, err := io.ReadAll(answer.resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, answer.resp.StatusCode)
	require.Contains(t, string(body), "The server is stopping")
	requireDocumented(t, answer.resp, body)
	await(t, ended)
	require.Contains(t, log.String(), "path=/photos/failed status=503")
}

// TestASlowBodyEndsWith408 sends only a part of the body.
func TestASlowBodyEndsWith408(t *testing.T) {
	t.Parallel()
	address, stop, ended := serve(t, postgrestest.URL(t), "HTTP_TIMEOUT=1s")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /photos/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n[")
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/photos/process", nil)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestTimeout, resp.StatusCode, string(body))
	require.Contains(t, string(body), "1s")
	requireDocumented(t, resp, body)
	stop()
	await(t, ended)
}

// TestSlowQueriesEndWith503 locks the table for longer than HTTP_TIMEOUT.
func TestSlowQueriesEndWith503(t *testing.T) {
	t.Parallel()
	databaseURL := postgrestest.URL(t)
	address, stop, ended := serve(t, databaseURL, "HTTP_TIMEOUT=1s")
	lockPhotos(t, databaseURL)
	for _, request := range []struct{ method, path, body string }{
		{http.MethodGet, "/photos/pending", ""},
		{http.MethodGet, "/photos/8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10", ""},
		{http.MethodPost, "/photos", `{"url":"https://photos.example/1.jpg"}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), request.method, "http://"+address+request.path, strings.NewReader(request.body))
		require.NoError(t, err)
		resp, err := devstacktest.HTTPClient.Do(req)
		require.NoError(t, err, request.path)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "%s: %s", request.path, body)
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
		requireDocumented(t, resp, body)
	}
	stop()
	await(t, ended)
}

func TestMigratesTheSchema(t *testing.T) {
	t.Parallel()
	address, stop, ended := serve(t, postgrestest.Empty(t))
	require.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get("http://" + address + "/photos/pending")
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		requireDocumented(t, resp, body)
		return resp.StatusCode == http.StatusOK && strings.TrimSpace(string(body)) == "[]"
	}, 30*time.Second, 10*time.Millisecond)
	stop()
	await(t, ended)
}
