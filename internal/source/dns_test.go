package source

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestFetchNames(t *testing.T) {
	t.Parallel()
	blocked, requireUnused := listenBlocked(t, blockedAddr)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	closedPort := portOf(t, closedAddress(t))

	f := setup(t, nil)
	names := map[string][]string{
		"photos.test.":        {allowedAddr},
		"xn--bcher-kva.test.": {allowedAddr},
		"private.test.":       {blockedAddr},
		"private6.test.":      {blockedIPv6},
		"both.test.":          {blockedIPv6, blockedAddr},
		"mapped.test.":        {"::ffff:127.0.0.2"},
		"metadata.test.":      {"169.254.169.254", "fd00:ec2::254"},
		"mixed.test.":         {blockedIPv6, blockedAddr, allowedAddr},
		"many-private.test.":  {blockedAddr, "127.0.0.3", "10.0.0.1", "::1", "fd00::1"},
		"nat64.test.":         {"64:ff9b::7f00:2"},
	}
	serveDNS(t, f, func(name string) []string { return names[name] })

	for _, host := range []string{"photos.test", "PHOTOS.test", "photos.test.", "mixed.test"} {
		written, _, err := fetch(t, f, "http://"+host+":"+urlPort(t, server))
		require.NoError(t, err, host)
		require.Equal(t, strings.ToLower(host)+":"+urlPort(t, server), written)
	}
	written, _, err := fetch(t, f, "http://Bücher.test:"+urlPort(t, server))
	require.NoError(t, err)
	require.Equal(t, "xn--bcher-kva.test:"+urlPort(t, server), written)

	for _, host := range []string{"private.test", "private6.test", "both.test", "mapped.test", "metadata.test", "many-private.test", "nat64.test"} {
		_, _, err := fetch(t, f, "http://"+host+":"+portOf(t, blocked))
		requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	}
	requireUnused()

	// With a permitted address, the host is unavailable, not blocked.
	for _, host := range []string{"photos.test", "mixed.test"} {
		_, _, err := fetch(t, f, "http://"+host+":"+closedPort)
		requireFailure(t, err, photo.SourceUnavailable, "no connection to the source could be made")
	}

	_, _, err = fetch(t, f, "http://nowhere.test/")
	sourceErr := requireFailure(t, err, photo.SourceUnavailable, "the source's host does not exist")
	require.Contains(t, sourceErr.Cause, "no such host")
}

// A name has an allowed address at the first lookup, and a blocked one at the
// next, which a redirect causes.
func TestFetchRebinding(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	blocked, requireUnused := listenBlocked(t, blockedAddr)
	var rebound atomic.Bool
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rebound.Store(true)
		w.Header().Set("Connection", "close")
		http.Redirect(w, r, "http://rebind.test:"+portOf(t, blocked)+"/", http.StatusFound)
	})
	serveDNS(t, f, func(string) []string {
		if rebound.Load() {
			return []string{blockedAddr}
		}
		return []string{allowedAddr}
	})
	_, _, err := fetch(t, f, "http://rebind.test:"+urlPort(t, server))
	requireFailure(t, err, photo.SourceBlocked, "the source redirects to an address that is not public")
	_, _, err = fetch(t, f, "http://rebind.test:"+urlPort(t, server))
	requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	requireUnused()
}

func TestFetchSlowDNS(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.ConnectTimeout, c.Timeout = shortTimeout, 2*time.Second }) // the resolver gives up after 10 s
	silent, err := net.ListenPacket("udp", allowedAddr+":0")
	require.NoError(t, err)
	defer silent.Close()
	useDNS(f, silent.LocalAddr().String())
	_, _, err = fetch(t, f, "http://photos.test/")
	requireFailure(t, err, photo.SourceTimeout, "no connection to the source could be made within 50ms")
}

// serveDNS starts a DNS server and has f use it. lookup returns the addresses
// of a name, which ends in a dot; a name without addresses does not exist.
func serveDNS(t testing.TB, f *Fetcher, lookup func(name string) []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", allowedAddr+":0")
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
	f.dialer.netDialer.Resolver = &net.Resolver{
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
