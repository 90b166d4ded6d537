package source

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Fetcher fetches sources. It is safe for concurrent use, and one serves a
// whole process: its connections are reused, and hosts are spared only by the
// fetches that share one.
type Fetcher struct {
	config    Config
	guard     *guard
	hosts     hosts
	transport *http.Transport
	beat      time.Duration // how often progress is called
}

// New makes a fetcher. The error names every field of config that is wrong.
func New(config Config) (*Fetcher, error) {
	if err := config.normalize(); err != nil {
		return nil, err
	}
	f := &Fetcher{
		config: config,
		guard: &guard{
			dialer: net.Dialer{Timeout: config.ConnectTimeout},
			allow:  config.AllowCIDRs,
			own:    net.InterfaceAddrs,
		},
		hosts: hosts{limit: config.HostConcurrency, byName: map[string]*host{}},
		beat:  time.Second,
	}
	f.transport = &http.Transport{
		DialContext:            f.guard.dial,
		TLSHandshakeTimeout:    config.ConnectTimeout,
		ResponseHeaderTimeout:  config.HeaderTimeout,
		MaxResponseHeaderBytes: config.MaxHeaderBytes,
		DisableCompression:     true, // photos are compressed already; see decode for servers that do it all the same
		ForceAttemptHTTP2:      true, // which a DialContext would turn off
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    config.HostConcurrency,
		IdleConnTimeout:        30 * time.Second, // shorter than servers keep them, so that few are found dead
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: 1 << 20, // bytes; 10 MB/s over a round trip of 100 ms. By default four times that.
			SendPingTimeout:           10 * time.Second,
			PingTimeout:               10 * time.Second, // a dead connection is not kept for the next fetch
		},
	}
	if config.Proxy != nil {
		// The proxy's address is the operator's choice, so it is not guarded.
		f.transport.Proxy = http.ProxyURL(config.Proxy)
		f.transport.DialContext = f.guard.dialer.DialContext
	}
	return f, nil
}

// Close closes the connections that no fetch is using.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// Fetch writes the source at rawURL to w. However large the source, less than
// 2 MiB of it are in memory at a time. After an error w has any part of it, or
// nothing.
//
// Credentials in the URL are sent as Basic authentication to its own scheme,
// host and port, and no further along redirects. Those may lead from https to
// http, as browsers and curl allow: nothing secret travels, and who can redirect
// can also choose the picture.
//
// Unless nil, progress is called with the number of bytes written so far: once
// a second for as long as the fetch takes, also while it waits for its turn at
// the host, for the source or for w, and once more before Fetch returns. It is
// never called concurrently, and should not block.
//
// Errors are of three kinds: an [*Error], which wraps a [*photo.Failure], for
// what is the source's fault or the URL's; a [*WriteError] that wraps the error
// of w; and when ctx is done, its error, wrapped together with its cause if that
// says more.
func (f *Fetcher) Fetch(ctx context.Context, rawURL string, w io.Writer, progress func(bytes int64)) (Fetched, error) {
	first, failure := parseTarget(rawURL)
	if failure != nil {
		return Fetched{}, &Error{Failure: failure}
	}
	a := &attempt{f: f, caller: ctx}
	var cancel context.CancelCauseFunc
	a.ctx, cancel = context.WithCancelCause(ctx)
	defer cancel(nil)
	a.total = &allowance{left: f.config.Timeout, spent: func() { cancel(errTimeout) }}
	a.window = &allowance{left: f.config.SpeedWindow, spent: func() { cancel(errSlow) }}

	defer f.report(progress, &a.written)()
	fetched, err := a.follow(first, w)
	if err != nil {
		return Fetched{}, a.explain(err)
	}
	return fetched, nil
}

// report calls progress at every beat, until stopped.
func (f *Fetcher) report(progress func(int64), written *atomic.Int64) (stop func()) {
	if progress == nil {
		return func() {}
	}
	done, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		ticker := time.NewTicker(f.beat)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				progress(written.Load())
			case <-done:
				progress(written.Load())
				return
			}
		}
	}()
	return func() {
		close(done)
		<-finished
	}
}

// attempt is one call of Fetch.
type attempt struct {
	f       *Fetcher
	caller  context.Context // as Fetch was given it
	ctx     context.Context // ends with caller's, or with errTimeout or errSlow as its cause
	total   *allowance
	window  *allowance
	written atomic.Int64 // bytes that the writer took

	redirects int          // followed so far
	reached   atomic.Int32 // the phase of the current exchange
	secrets   []string     // for scrub: old, new, old, new …
}

func (a *attempt) phase() phase { return phase(a.reached.Load()) }

// follow fetches the target, or what it redirects to.
//
// A redirect that goes on for too long is a source_unavailable, for which there
// are bounded retries: it is most often a deployment in progress.
func (a *attempt) follow(t target, w io.Writer) (Fetched, error) {
	a.keepSecret(t)
	for {
		next, fetched, err := a.exchange(t, w)
		if err != nil || next == nil {
			return fetched, err
		}
		if a.redirects == a.f.config.MaxRedirects {
			return Fetched{}, fail(photo.SourceUnavailable, "the source redirects more than %d times", a.redirects)
		}
		a.redirects++
		t = *next
	}
}

// exchange makes one request. It gives either the target that the answer
// redirects to, or what it fetched.
func (a *attempt) exchange(t target, w io.Writer) (*target, Fetched, error) {
	if a.f.config.Proxy != nil {
		if err := a.f.guard.checkHost(t.host); err != nil {
			return nil, Fetched{}, err
		}
	}
	release, err := a.f.hosts.acquire(a.ctx, t.host)
	if err != nil {
		return nil, Fetched{}, err
	}
	defer release()
	ctx, span := a.f.startSpan(a.ctx, t)
	defer span.End()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	a.total.run()
	resp, err := a.f.transport.RoundTrip(a.request(ctx, t))
	a.total.rest()
	if err != nil {
		span.SetStatus(codes.Error, string(a.failure(err).Code))
		return nil, Fetched{}, err
	}
	defer resp.Body.Close()
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	a.reached.Store(int32(readingBody))

	switch location := resp.Header.Get("Location"); {
	case isRedirect(resp.StatusCode) && location != "":
		discard(resp, cancel)
		next, err := a.redirect(t, location)
		return next, Fetched{}, err
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNonAuthoritativeInfo:
		fetched, err := a.download(resp, w)
		if err != nil {
			span.SetStatus(codes.Error, "the body did not arrive, or could not be stored")
		}
		span.SetAttributes(attribute.Int64("http.response.body.size", a.written.Load()))
		return nil, fetched, err
	default: // also 202, 204 and 206, which hold no photo or not the whole of it
		discard(resp, cancel)
		return nil, Fetched{}, statusFailure(resp, time.Now(), a.f.config.MaxRetryAfter)
	}
}

// startSpan begins the span of one request, by OpenTelemetry's conventions as far
// as they show no more of the URL than its host.
func (f *Fetcher) startSpan(ctx context.Context, t target) (context.Context, trace.Span) {
	port, _ := strconv.Atoi(t.port()) // it is a number: newTarget has seen to it
	return f.config.Tracer.Start(ctx, http.MethodGet, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", http.MethodGet),
		attribute.String("url.scheme", t.url.Scheme),
		attribute.String("server.address", t.host),
		attribute.Int("server.port", port),
	))
}

func (a *attempt) request(ctx context.Context, t target) *http.Request {
	a.reached.Store(int32(connecting))
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// Twice if a kept connection turns out to be dead.
		GetConn: func(string) { a.reached.Store(int32(connecting)) },
		GotConn: func(httptrace.GotConnInfo) { a.reached.Store(int32(awaitingHeader)) },
	})
	req := (&http.Request{
		Method: http.MethodGet,
		URL:    t.url,
		Host:   t.url.Host,
		Header: http.Header{
			"Accept":          {"*/*"}, // naming formats makes some CDNs convert the photo
			"Accept-Encoding": {"identity"},
			"User-Agent":      {a.f.config.UserAgent},
		},
	}).WithContext(ctx)
	if t.user != nil {
		password, _ := t.user.Password()
		req.SetBasicAuth(t.user.Username(), password)
	}
	return req
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirect gives the target that an answer of from leads to. It carries from's
// credentials while it stays with from's origin, and never others: those in a
// Location are of the source's choosing.
func (a *attempt) redirect(from target, location string) (*target, error) {
	u, err := from.url.Parse(location)
	if err != nil {
		return nil, fail(photo.SourceBlocked, "the source redirects to what is no URL")
	}
	a.keepSecret(target{url: u, user: u.User})
	next, failure := newTarget(u)
	if failure != nil {
		return nil, fail(photo.SourceBlocked, "the source redirects to what is no http or https URL")
	}
	next.user = nil
	if next.sameOrigin(from) {
		next.user = from.user
	}
	return &next, nil
}

func (a *attempt) download(resp *http.Response, w io.Writer) (Fetched, error) {
	c := &a.f.config
	if resp.ContentLength > c.MaxBytes {
		return Fetched{}, fail(photo.SourceTooLarge, "the source has %d bytes; the limit is %d", resp.ContentLength, c.MaxBytes)
	}
	body := &pacedReader{
		body:   resp.Body,
		total:  a.total,
		window: a.window,
		span:   c.SpeedWindow,
		quota:  max(1, int64(float64(c.MinBytesPerSecond)*c.SpeedWindow.Seconds())),
	}
	return copyBody(w, decode(body, resp.Header, c.MaxBytes), &a.written)
}

// The most of an unwanted body that is read so that its connection can be used
// again. More would cost more than a new connection.
const (
	discardBytes = 16 << 10
	discardTime  = 50 * time.Millisecond
)

func discard(resp *http.Response, cancel context.CancelFunc) {
	if resp.ContentLength > discardBytes || resp.StatusCode == http.StatusSwitchingProtocols {
		return // the body of a switch is the bare connection, which no context ends
	}
	timer := time.AfterFunc(discardTime, cancel)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, discardBytes+1)
}
