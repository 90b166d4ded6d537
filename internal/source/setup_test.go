package source

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Loopback addresses for the tests' servers: the fetcher of setup may connect
// to allowedAddr only.
const (
	allowedAddr = "127.0.0.1"
	blockedAddr = "127.0.0.2"
	blockedIPv6 = "::1"
)

// setup returns a fetcher that may connect to allowedAddr. Its limits are the
// defaults, which a test on loopback does not reach by accident.
func setup(t testing.TB, change func(*Config)) *Fetcher {
	t.Helper()
	config := Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix(allowedAddr + "/32")}}
	if change != nil {
		change(&config)
	}
	f, err := New(config)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

// serve starts a server at allowedAddr, and returns its URL without a trailing
// slash.
func serve(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	require.Contains(t, server.URL, allowedAddr)
	return server.URL
}

// serveRaw starts a server that reads a request from each connection and lets
// answer write the bytes of the response. The connection is closed when answer
// returns or the test ends.
func serveRaw(t testing.TB, answer func(conn net.Conn)) string {
	t.Helper()
	listener := listen(t, allowedAddr)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					answer(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		cancel()
		wg.Wait()
	})
	return "http://" + listener.Addr().String()
}

// listen listens at any port of the address. It skips the test if the machine
// lacks an address other than allowedAddr.
func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil && address != allowedAddr {
		t.Skipf("this machine has no %s: %v", address, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener
}

// listenBlocked listens at an address that nobody may connect to.
// requireUnused dials the listener itself, and fails the test if an earlier
// connection is accepted first.
func listenBlocked(t testing.TB, address string) (hostPort string, requireUnused func()) {
	t.Helper()
	listener := listen(t, address)
	return listener.Addr().String(), func() {
		t.Helper()
		own, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		defer own.Close()
		first, err := listener.Accept()
		require.NoError(t, err)
		defer first.Close()
		require.Equal(t, own.LocalAddr().String(), first.RemoteAddr().String(), "someone connected to a blocked address")
	}
}

// closedAddress returns a host and port at which connections are refused.
func closedAddress(t testing.TB) string {
	t.Helper()
	listener := listen(t, allowedAddr)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func portOf(t testing.TB, hostPort string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(hostPort)
	require.NoError(t, err)
	return port
}

func urlPort(t testing.TB, url string) string {
	t.Helper()
	return portOf(t, strings.TrimPrefix(url, "http://"))
}

// fetch returns the bytes that Fetch wrote, its result and its error.
func fetch(t testing.TB, f *Fetcher, url string) (string, Result, error) {
	t.Helper()
	var w bytes.Buffer
	result, err := f.Fetch(t.Context(), url, &w, nil)
	if err == nil {
		require.EqualValues(t, w.Len(), result.Bytes)
	}
	return w.String(), result, err
}

// requireFailure checks an Error's code and whole message.
func requireFailure(t testing.TB, err error, code photo.Code, format string, args ...any) *Error {
	t.Helper()
	var sourceErr *Error
	require.ErrorAs(t, err, &sourceErr)
	require.Equal(t, code, sourceErr.Failure.Code, "%s (%s)", sourceErr, sourceErr.Cause)
	require.Equal(t, fmt.Sprintf(format, args...), sourceErr.Error(), sourceErr.Cause)
	require.Equal(t, code, photo.CodeOf(err))
	return sourceErr
}

func textHandler(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }
