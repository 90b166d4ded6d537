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
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// The tests' servers listen on addresses that are all this machine: allowed is
// one that the fetcher may connect to, refused are two that it may not.
const (
	allowed  = "127.0.0.1"
	refused  = "127.0.0.2"
	refused6 = "::1"
)

// setup makes a fetcher that may connect to allowed. Its limits are the
// defaults, which no test on a loopback reaches by accident.
func setup(t testing.TB, change func(*Config)) *Fetcher {
	t.Helper()
	config := Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix(allowed + "/32")}}
	if change != nil {
		change(&config)
	}
	f, err := New(config)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

// serve starts a server at allowed, and gives its URL without a trailing slash.
func serve(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	require.Contains(t, server.URL, allowed)
	return server.URL
}

// serveRaw starts a server that reads each request and leaves the answer to
// answer, byte for byte. The connection is closed when answer returns, and when
// the test ends.
func serveRaw(t testing.TB, answer func(conn net.Conn)) string {
	t.Helper()
	listener := listen(t, allowed)
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

// listen listens at any port of the address, or skips the test where the
// machine does not have it.
func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil && address != allowed {
		t.Skipf("this machine has no %s: %v", address, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener
}

// trap listens where nobody may connect to. The check tells that nobody did:
// then the first connection that it accepts is its own.
func trap(t testing.TB, address string) (hostPort string, check func()) {
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
		require.Equal(t, own.LocalAddr().String(), first.RemoteAddr().String(), "someone connected to a refused address")
	}
}

// resolve lets f look up names at a server of the test's own. It is asked with
// the name, ending in a dot, and gives its addresses: none for a name that does
// not exist.
func resolve(t testing.TB, f *Fetcher, lookup func(name string) []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", allowed+":0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4<<10)
		for {
			n, peer, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			answer, err := answerDNS(buffer[:n], lookup)
			if err != nil {
				t.Errorf("DNS: %v", err)
				return
			}
			_, _ = conn.WriteTo(answer, peer)
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	useDNS(f, conn.LocalAddr().String())
}

func useDNS(f *Fetcher, address string) {
	f.guard.dialer.Resolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", address)
		},
	}
}

func answerDNS(query []byte, lookup func(string) []string) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(query); err != nil {
		return nil, err
	}
	question := message.Questions[0]
	message.Response, message.RCode = true, dnsmessage.RCodeSuccess
	message.Answers, message.Authorities, message.Additionals = nil, nil, nil
	addresses := lookup(question.Name.String())
	if len(addresses) == 0 {
		message.RCode = dnsmessage.RCodeNameError
	}
	for _, address := range addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return nil, err
		}
		header := dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: dnsmessage.ClassINET}
		switch {
		case ip.Is4() && question.Type == dnsmessage.TypeA:
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}})
		case ip.Is6() && question.Type == dnsmessage.TypeAAAA:
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	return message.Pack()
}

// port is the port of a URL that serve gave.
func port(t testing.TB, url string) string {
	t.Helper()
	target, failure := parseTarget(url)
	require.Nil(t, failure)
	return target.url.Port()
}

// fetch fetches into memory.
func fetch(t testing.TB, f *Fetcher, url string) (string, Fetched, error) {
	t.Helper()
	var w bytes.Buffer
	fetched, err := f.Fetch(t.Context(), url, &w, nil)
	if err == nil {
		require.EqualValues(t, w.Len(), fetched.Bytes)
	}
	return w.String(), fetched, err
}

// requireFailure checks the code and the whole message of a failure.
func requireFailure(t testing.TB, err error, code photo.Code, format string, args ...any) *Error {
	t.Helper()
	var failure *Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, code, failure.Failure.Code, "%s (%s)", failure, failure.Cause)
	require.Equal(t, fmt.Sprintf(format, args...), failure.Error(), failure.Cause)
	require.Equal(t, code, photo.CodeOf(err))
	return failure
}

// text answers with the text.
func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}
