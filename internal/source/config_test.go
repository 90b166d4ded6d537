package source

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"
)

func TestNewDefaults(t *testing.T) {
	t.Parallel()
	f, err := New(Config{})
	require.NoError(t, err)
	require.Equal(t, Config{
		MaxBytes:          64 << 20,
		Timeout:           time.Minute,
		ConnectTimeout:    10 * time.Second,
		HeaderTimeout:     20 * time.Second,
		MaxHeaderBytes:    64 << 10,
		MaxRedirects:      5,
		MinBytesPerSecond: 1 << 10,
		SpeedWindow:       10 * time.Second,
		HostConcurrency:   8,
		MaxWaiting:        8,
		MaxHostWait:       time.Second,
		UserAgent:         "photo-processor",
		Tracer:            noop.NewTracerProvider().Tracer(""),
		MaxRetryAfter:     10 * time.Minute,
	}, f.config)
}

func TestNewReportsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := New(Config{
		MaxBytes:          -1,
		Timeout:           -1,
		ConnectTimeout:    -1,
		HeaderTimeout:     -1,
		MaxHeaderBytes:    -1,
		MaxRedirects:      -2,
		MinBytesPerSecond: -1,
		SpeedWindow:       -1,
		HostConcurrency:   -1,
		AllowCIDRs:        []netip.Prefix{{}},
		UserAgent:         "a\r\nb: c",
		Proxy:             &url.URL{Scheme: "ftp", Host: "proxy", User: url.UserPassword("op", "s3cret")},
		MaxRetryAfter:     -1,
	})
	require.Error(t, err)
	require.Len(t, strings.Split(err.Error(), "\n"), 13)
	require.NotContains(t, err.Error(), "s3cret")

	_, err = New(Config{Proxy: &url.URL{Scheme: "http"}})
	require.ErrorContains(t, err, "proxy: ")
}

func TestNewDoesNotChangeItsArgument(t *testing.T) {
	t.Parallel()
	cidrs := []netip.Prefix{netip.MustParsePrefix("::ffff:10.1.2.3/104")}
	f, err := New(Config{AllowCIDRs: cidrs})
	require.NoError(t, err)
	require.Equal(t, netip.MustParsePrefix("::ffff:10.1.2.3/104"), cidrs[0])
	require.Equal(t, netip.MustParsePrefix("10.0.0.0/8"), f.dialer.allowed[0])
}
