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

// Config has the limits and the network settings of a [Fetcher]. A field's zero
// value means its default.
type Config struct {
	// MaxBytes is the maximum size of a source, in bytes. It applies to the
	// bytes on the wire and, if those are gzip, to the decompressed ones.
	// Defaults to 64 MiB, more than a 100-megapixel JPEG of a good camera.
	MaxBytes int64

	// Timeout bounds the time that a fetch waits for the source, over all
	// redirects. Time that it waits for a host slot or for the writer does not
	// count. Defaults to 1 minute.
	Timeout time.Duration

	// ConnectTimeout bounds the DNS lookup and the TCP connection together, and
	// the TLS handshake separately. Defaults to 10 seconds: a TCP handshake
	// that loses its first three packets takes 7.
	ConnectTimeout time.Duration

	// HeaderTimeout bounds the time from a request to the end of the response's
	// headers. Defaults to 20 seconds, for sources that render the picture on
	// request.
	HeaderTimeout time.Duration

	// MaxHeaderBytes is the maximum size of a response's headers, in bytes.
	// Defaults to 64 KiB, eight times the limit of common servers.
	MaxHeaderBytes int64

	// MaxRedirects is the maximum number of redirects; -1 follows none.
	// Defaults to 5: to https, to www, to a canonical path, to a CDN, and one
	// more.
	MaxRedirects int

	// MinBytesPerSecond is the minimum speed of a body, averaged over
	// SpeedWindow. It bounds how long a source that sends its body slowly
	// occupies a worker. Defaults to 1 KiB, slower than any network in use.
	MinBytesPerSecond int64

	// SpeedWindow is the time over which MinBytesPerSecond is measured, so also
	// how long a body may stall. Defaults to 10 seconds, enough for a lost
	// packet or a phone that changes cells.
	SpeedWindow time.Duration

	// HostConcurrency is the maximum number of concurrent fetches from one host
	// by this Fetcher; further ones wait for a slot. Defaults to 8, which a
	// small web server can serve.
	HostConcurrency int

	// MaxWaiting is the number of fetches, from all hosts together, that may
	// wait for a slot of their host as long as it takes. A further one fails
	// with ErrHostBusy after MaxHostWait. Defaults to 8, so that a slot of a
	// host is soon used again.
	MaxWaiting int

	// MaxHostWait bounds the waiting of the fetches beyond MaxWaiting. Defaults
	// to 1 second: a host that is not slow frees a slot in less.
	MaxHostWait time.Duration

	// AllowCIDRs are networks that sources may be in although they are not
	// public. An IPv4 network also matches the IPv4-mapped IPv6 form of its
	// addresses. Defaults to none.
	AllowCIDRs []netip.Prefix

	// AllowAddresses are addresses that sources may have on one port each,
	// although they are not public. Defaults to none.
	AllowAddresses []netip.AddrPort

	// UserAgent is the User-Agent header of requests. Defaults to
	// "photo-processor".
	UserAgent string

	// Proxy is the http, https or socks5 URL of a proxy for all requests. The
	// proxy variables of the environment are ignored. Defaults to none.
	//
	// The proxy looks up names and connects. Therefore the fetcher can refuse
	// only IP addresses and localhost, and the proxy must refuse names that
	// lead into networks that it can reach. A lookup by the fetcher would prove
	// nothing: the proxy's may have another result.
	Proxy *url.URL

	// Tracer records a span of each request. The span has the URL's host and
	// port only, since the rest may be secret, and sources receive no trace
	// headers. Defaults to none.
	Tracer trace.Tracer

	// MaxRetryAfter is the maximum of a failure's RetryAfter; a longer
	// Retry-After header is shortened to it. Defaults to 10 minutes.
	MaxRetryAfter time.Duration
}

// normalize sets the defaults and validates all fields. The error lists every
// invalid field.
func (c *Config) normalize() error {
	var errs []error
	setDefault(&errs, "MaxBytes", &c.MaxBytes, 64<<20)
	setDefault(&errs, "Timeout", &c.Timeout, time.Minute)
	setDefault(&errs, "ConnectTimeout", &c.ConnectTimeout, 10*time.Second)
	setDefault(&errs, "HeaderTimeout", &c.HeaderTimeout, 20*time.Second)
	setDefault(&errs, "MaxHeaderBytes", &c.MaxHeaderBytes, 64<<10)
	setDefault(&errs, "MinBytesPerSecond", &c.MinBytesPerSecond, 1<<10)
	setDefault(&errs, "SpeedWindow", &c.SpeedWindow, 10*time.Second)
	setDefault(&errs, "HostConcurrency", &c.HostConcurrency, 8)
	setDefault(&errs, "MaxWaiting", &c.MaxWaiting, 8)
	setDefault(&errs, "MaxHostWait", &c.MaxHostWait, time.Second)
	setDefault(&errs, "MaxRetryAfter", &c.MaxRetryAfter, 10*time.Minute)

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

	c.AllowAddresses = slices.Clone(c.AllowAddresses)
	for i, a := range c.AllowAddresses {
		if !a.IsValid() || a.Port() == 0 {
			errs = append(errs, fmt.Errorf("AllowAddresses: element %d is no address with a port", i))
		}
		c.AllowAddresses[i] = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
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
		if !slices.Contains([]string{"http", "https", "socks5"}, c.Proxy.Scheme) || c.Proxy.Hostname() == "" {
			errs = append(errs, errors.New("proxy: not the http, https or socks5 URL of a host"))
		}
	}
	return errors.Join(errs...)
}

// setDefault sets a zero field, and appends to errs if it is negative.
func setDefault[T int | int64 | time.Duration](errs *[]error, name string, field *T, value T) {
	switch {
	case *field == 0:
		*field = value
	case *field < 0:
		*errs = append(*errs, fmt.Errorf("%s: %v is negative", name, *field))
	}
}
