package source

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/net/http/httpguts"
)

// Config bounds what a fetch may cost. In every field the zero value means the
// default.
type Config struct {
	// MaxBytes is the largest source that is fetched, in bytes. It holds for the
	// bytes on the wire and for those that gzip makes of them. Defaults to 50 MiB:
	// a photo of 100 megapixels from a good camera, as a JPEG, is about that.
	MaxBytes int64

	// Timeout is how long a fetch may wait for the source in all, over all its
	// redirects. Time that the fetch waits for its turn at the host, or that the
	// writer takes, is not the source's and does not count. Defaults to 1 minute.
	Timeout time.Duration

	// ConnectTimeout is how long a connection may take to be made: looking up the
	// name and connecting to one of its addresses. A TLS handshake may take as
	// long again. Defaults to 10 seconds, of which a TCP handshake that loses its
	// first three packets takes seven.
	ConnectTimeout time.Duration

	// HeaderTimeout is how long an answer's status and headers may take to arrive
	// once it was asked for. Defaults to 20 seconds: a source may well make the
	// picture when it is asked for it.
	HeaderTimeout time.Duration

	// MaxHeaderBytes is how large an answer's headers may be, in bytes. Defaults
	// to 64 KiB, eight times what common servers send at most.
	MaxHeaderBytes int64

	// MaxRedirects is how many redirects are followed; -1 follows none. Defaults
	// to 5: to https, to www, to a canonical path, to a CDN, and one to spare.
	MaxRedirects int

	// MinBytesPerSecond is the slowest that a body may arrive, measured over
	// SpeedWindow. Together they bound how long a source that drips can occupy a
	// worker to no avail. Defaults to 1 KiB, slower than any network in use.
	MinBytesPerSecond int64

	// SpeedWindow is how long a body may stall before it is too slow. Defaults to
	// 10 seconds, to outlast a lost packet or a phone that changes cells.
	SpeedWindow time.Duration

	// HostConcurrency is how many fetches this process runs against one host at a
	// time; further ones wait for their turn. Defaults to 8, which a small web
	// server bears.
	HostConcurrency int

	// AllowCIDRs are the networks that sources may be on although they are not
	// public. Ranges of IPv4 also match the IPv4-mapped form of their addresses.
	// Defaults to none.
	AllowCIDRs []netip.Prefix

	// UserAgent tells a source who asks. Defaults to "photo-processor".
	UserAgent string

	// Proxy is the proxy through which sources are fetched: an http, https,
	// socks5 or socks5h URL. The environment's proxy variables are never used.
	// Defaults to none.
	//
	// Behind a proxy it is the proxy that looks up names and connects. Then only
	// what the URL itself shows is refused here, which is IP addresses and
	// localhost, and the proxy has to refuse names that lead into networks it can
	// reach. Checking a name here would prove nothing: it may look different from
	// the proxy, and a moment later.
	Proxy *url.URL

	// Tracer makes a span of each request. It names the host alone: the rest of a
	// URL may be secret. Sources are told nothing of it. Defaults to none.
	Tracer trace.Tracer

	// MaxRetryAfter is the longest that a source's Retry-After is believed.
	// Defaults to 5 minutes.
	MaxRetryAfter time.Duration
}

// normalize puts in the defaults and checks the rest. It reports every mistake
// at once.
func (c *Config) normalize() error {
	var errs []error
	integer(&errs, "MaxBytes", &c.MaxBytes, 50<<20)
	duration(&errs, "Timeout", &c.Timeout, time.Minute)
	duration(&errs, "ConnectTimeout", &c.ConnectTimeout, 10*time.Second)
	duration(&errs, "HeaderTimeout", &c.HeaderTimeout, 20*time.Second)
	integer(&errs, "MaxHeaderBytes", &c.MaxHeaderBytes, 64<<10)
	integer(&errs, "MinBytesPerSecond", &c.MinBytesPerSecond, 1<<10)
	duration(&errs, "SpeedWindow", &c.SpeedWindow, 10*time.Second)
	integer(&errs, "HostConcurrency", &c.HostConcurrency, 8)
	duration(&errs, "MaxRetryAfter", &c.MaxRetryAfter, 5*time.Minute)

	switch {
	case c.MaxRedirects == 0:
		c.MaxRedirects = 5
	case c.MaxRedirects == -1:
		c.MaxRedirects = 0
	case c.MaxRedirects < -1:
		errs = append(errs, fmt.Errorf("MaxRedirects: %d is neither -1 nor more", c.MaxRedirects))
	}

	c.AllowCIDRs = slices.Clone(c.AllowCIDRs)
	for i, prefix := range c.AllowCIDRs {
		if !prefix.IsValid() {
			errs = append(errs, fmt.Errorf("AllowCIDRs: element %d is no network", i))
			continue
		}
		c.AllowCIDRs[i] = unmapPrefix(prefix)
	}

	if c.Tracer == nil {
		c.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if c.UserAgent == "" {
		c.UserAgent = "photo-processor"
	} else if !httpguts.ValidHeaderFieldValue(c.UserAgent) {
		errs = append(errs, fmt.Errorf("UserAgent: %q cannot be sent in a header", c.UserAgent))
	}

	if c.Proxy != nil {
		// Without the URL: it may hold the proxy's password.
		if !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, c.Proxy.Scheme) || c.Proxy.Hostname() == "" {
			errs = append(errs, errors.New("proxy: not the http, https, socks5 or socks5h URL of a host"))
		}
	}
	return errors.Join(errs...)
}

func integer[T int | int64](errs *[]error, name string, field *T, byDefault T) {
	switch {
	case *field == 0:
		*field = byDefault
	case *field < 0:
		*errs = append(*errs, fmt.Errorf("%s: %d is negative", name, *field))
	}
}

func duration(errs *[]error, name string, field *time.Duration, byDefault time.Duration) {
	switch {
	case *field == 0:
		*field = byDefault
	case *field < 0:
		*errs = append(*errs, fmt.Errorf("%s: %s is negative", name, *field))
	}
}
