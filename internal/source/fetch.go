package source

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/publicsuffix"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Fetcher fetches sources over HTTP. It is safe for concurrent use. A process
// should have only one: connections are reused, and concurrent fetches per host
// are limited, within one Fetcher.
type Fetcher struct {
	config           Config
	dialer           *publicDialer
	hosts            hostLimiter
	transport        *http.Transport
	progressInterval time.Duration
}

// New returns a Fetcher. The error names every invalid field of config.
func New(config Config) (*Fetcher, error) {
	if err := config.normalize(); err != nil {
		return nil, err
	}
	f := &Fetcher{
		config: config,
		dialer: &publicDialer{
			netDialer:  net.Dialer{Timeout: config.ConnectTimeout},
			allowed:    config.AllowCIDRs,
			addresses:  config.AllowAddresses,
			localAddrs: net.InterfaceAddrs,
		},
		hosts:            hostLimiter{limit: config.HostConcurrency, maxWaiting: config.MaxWaiting, maxWait: config.MaxHostWait, hosts: map[string]*hostSlots{}},
		progressInterval: time.Second,
	}
	f.transport = &http.Transport{
		DialContext:            f.dialer.dialContext,
		TLSHandshakeTimeout:    config.ConnectTimeout,
		ResponseHeaderTimeout:  config.HeaderTimeout,
		MaxResponseHeaderBytes: config.MaxHeaderBytes,
		DisableCompression:     true, // photos are compressed already; decodeBody handles servers that use gzip anyway
		ForceAttemptHTTP2:      true, // a custom DialContext turns it off otherwise
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    config.HostConcurrency,
		IdleConnTimeout:        30 * time.Second, // shorter than most servers', so that few reused connections are closed already
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: 1 << 20, // bytes, for 10 MB/s at a round trip of 100 ms; the default is four times as much
			SendPingTimeout:           10 * time.Second,
			PingTimeout:               10 * time.Second, // so that no later fetch reuses a dead connection
		},
	}
	if config.Proxy != nil {
		// The operator chooses the proxy, so its address needs no check.
		f.transport.Proxy = http.ProxyURL(config.Proxy)
		f.transport.DialContext = f.dialer.netDialer.DialContext
	}
	return f, nil
}

// Close closes idle connections. Running fetches go on.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// Fetch writes the source at rawURL to w. It buffers less than 2 MiB, however
// large the source is. If it fails, w may have received a part of the source.
//
// Credentials in the URL are sent as Basic authentication to the URL's scheme,
// host and port, and to no other that a redirect leads to. Redirects from https
// to http are followed, as browsers and curl do: such a request carries no
// credentials, and a server that redirects could choose the picture anyway.
//
// Cookies are kept until Fetch returns, and sent as browsers do.
//
// progress, unless nil, is called with the number of bytes written so far:
// every second, also while the fetch waits for a host slot, for the source or
// for w, and once more before Fetch returns. Calls never overlap, and must not
// block.
//
// The error is an [*Error], which wraps a [*photo.Failure], if the URL or the
// source is at fault; a [*WriteError] if w failed; [ErrHostBusy]; or, once ctx
// is done, the context's error together with its cause.
func (f *Fetcher) Fetch(ctx context.Context, rawURL string, w io.Writer, progress func(bytes int64)) (Result, error) {
	first, failure := parseTarget(rawURL)
	if failure != nil {
		return Result{}, &Error{Failure: failure}
	}
	// Some sources set a cookie and redirect until it comes back. The error of
	// New is always nil.
	cookies, _ := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	d := &download{fetcher: f, callerCtx: ctx, cookies: cookies}
	var cancel context.CancelCauseFunc
	d.ctx, cancel = context.WithCancelCause(ctx)
	defer cancel(nil)
	d.fetchTimer = &pausableTimer{remaining: f.config.Timeout, expired: func() { cancel(errFetchTimeout) }}
	d.windowTimer = &pausableTimer{remaining: f.config.SpeedWindow, expired: func() { cancel(errBodyTooSlow) }}

	defer f.startProgress(progress, &d.written)()
	result, err := d.followRedirects(first, w)
	if err != nil {
		return Result{}, d.toError(err)
	}
	return result, nil
}

// startProgress calls progress at every interval, and a last time when stop is
// called.
func (f *Fetcher) startProgress(progress func(int64), written *atomic.Int64) (stop func()) {
	if progress == nil {
		return func() {}
	}
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(f.progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				progress(written.Load())
			case <-stopping:
				progress(written.Load())
				return
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}

// download is the state of one call of Fetch, over all its redirects.
type download struct {
	fetcher     *Fetcher
	callerCtx   context.Context
	ctx         context.Context // callerCtx's child; canceled with errFetchTimeout or errBodyTooSlow as the cause
	fetchTimer  *pausableTimer
	windowTimer *pausableTimer
	written     atomic.Int64 // bytes that the writer took

	redirects    int          // followed so far
	currentPhase atomic.Int32 // of the current request; also set by net/http's goroutines
	cookies      http.CookieJar
	secrets      []string // pairs for strings.NewReplacer: secret, replacement
}

func (d *download) phase() phase     { return phase(d.currentPhase.Load()) }
func (d *download) setPhase(p phase) { d.currentPhase.Store(int32(p)) }

// followRedirects requests the target, and each target that it redirects to,
// until a response has the photo.
//
// Too many redirects are a source_unavailable, whose retries are bounded: the
// usual cause is a deployment in progress.
func (d *download) followRedirects(t target, w io.Writer) (Result, error) {
	d.addSecrets(t)
	for {
		next, result, err := d.roundTrip(t, w)
		if err != nil || next == nil {
			return result, err
		}
		if d.redirects == d.fetcher.config.MaxRedirects {
			return Result{}, newError(photo.SourceUnavailable, "the source redirects more than %d times", d.redirects)
		}
		d.redirects++
		t = *next
	}
}

// roundTrip sends one request. For a redirect it returns the next target; else
// it writes the body to w and returns the result.
func (d *download) roundTrip(t target, w io.Writer) (*target, Result, error) {
	f := d.fetcher
	if f.config.Proxy != nil {
		port, _ := strconv.ParseUint(t.port(), 10, 16) // cannot fail: newTarget has checked it
		if err := f.dialer.checkHost(t.host, uint16(port)); err != nil {
			return nil, Result{}, err
		}
	}
	release, err := f.hosts.acquire(d.ctx, t.host)
	if err != nil {
		return nil, Result{}, err
	}
	defer release()
	ctx, span := f.startSpan(d.ctx, t)
	defer span.End()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	d.fetchTimer.resume()
	resp, err := f.transport.RoundTrip(d.newRequest(ctx, t))
	d.fetchTimer.pause()
	if err != nil {
		span.SetStatus(codes.Error, string(d.toFailure(err).Code))
		return nil, Result{}, err
	}
	defer resp.Body.Close()
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	d.setPhase(readingBody)

	switch location := resp.Header.Get("Location"); {
	case isRedirect(resp.StatusCode) && location != "":
		drain(resp, cancel)
		d.cookies.SetCookies(t.url, resp.Cookies())
		next, err := d.redirectTarget(t, location)
		return next, Result{}, err
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNonAuthoritativeInfo, isWholeRange(resp):
		result, err := d.writeBody(w, resp)
		if err != nil {
			span.SetStatus(codes.Error, "the body did not arrive, or could not be stored")
		}
		span.SetAttributes(attribute.Int64("http.response.body.size", d.written.Load()))
		return nil, result, err
	default: // includes 202 and 204, whose bodies are no photo
		drain(resp, cancel)
		return nil, Result{}, statusError(resp, time.Now(), f.config.MaxRetryAfter)
	}
}

// startSpan starts a request's span with the attributes of OpenTelemetry's HTTP
// conventions, except those that contain more of the URL than its host and
// port.
func (f *Fetcher) startSpan(ctx context.Context, t target) (context.Context, trace.Span) {
	port, _ := strconv.Atoi(t.port()) // cannot fail: newTarget has checked it
	return f.config.Tracer.Start(ctx, http.MethodGet, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", http.MethodGet),
		attribute.String("url.scheme", t.url.Scheme),
		attribute.String("server.address", t.host),
		attribute.Int("server.port", port),
	))
}

func (d *download) newRequest(ctx context.Context, t target) *http.Request {
	d.setPhase(connecting)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// Called again if a reused connection turns out to be closed.
		GetConn: func(string) { d.setPhase(connecting) },
		GotConn: func(httptrace.GotConnInfo) { d.setPhase(awaitingHeader) },
	})
	req := (&http.Request{
		Method: http.MethodGet,
		URL:    t.url,
		Host:   t.url.Host,
		Header: http.Header{
			"Accept":          {"*/*"}, // a list of formats makes some CDNs convert the photo
			"Accept-Encoding": {"identity"},
			"User-Agent":      {d.fetcher.config.UserAgent},
		},
	}).WithContext(ctx)
	for _, cookie := range d.cookies.Cookies(t.url) {
		req.AddCookie(cookie)
	}
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

// isWholeRange reports whether a response is a 206 whose range is the whole
// source. Some caches answer so although the request has no Range header.
func isWholeRange(resp *http.Response) bool {
	unit, contentRange, _ := strings.Cut(strings.TrimSpace(resp.Header.Get("Content-Range")), " ")
	_, size, _ := strings.Cut(contentRange, "/")
	n, err := strconv.ParseInt(size, 10, 64)
	return resp.StatusCode == http.StatusPartialContent && strings.EqualFold(unit, "bytes") && err == nil && n > 0 &&
		strings.TrimSpace(contentRange) == fmt.Sprintf("0-%d/%d", n-1, n) &&
		(resp.ContentLength == n || resp.ContentLength == -1)
}

// redirectTarget returns the target that a Location header of from leads to.
// The target keeps from's credentials if it has the same origin. Credentials in
// the Location are ignored: the source chose them.
//
// A Location that is no http or https URL is a source_unavailable: the source
// is misconfigured, and attacks nothing.
func (d *download) redirectTarget(from target, location string) (*target, error) {
	invalid := newError(photo.SourceUnavailable, "the source redirects to no valid http or https URL")
	if !isParsable(location) {
		return nil, invalid
	}
	u, err := from.base.Parse(escapeInvalidUTF8(location))
	if err != nil {
		return nil, invalid
	}
	next, failure := newTarget(u)
	if failure != nil {
		return nil, invalid
	}
	d.addSecrets(next)
	next.user = nil
	if next.hasSameOrigin(from) {
		next.user = from.user
	}
	return &next, nil
}

// writeBody writes the decoded body to w, under the limits of size and speed.
func (d *download) writeBody(w io.Writer, resp *http.Response) (Result, error) {
	c := &d.fetcher.config
	if resp.ContentLength > c.MaxBytes {
		return Result{}, newError(photo.SourceTooLarge, "the source has %d bytes; the limit is %d", resp.ContentLength, c.MaxBytes)
	}
	body := &timedReader{
		body:         resp.Body,
		fetchTimer:   d.fetchTimer,
		windowTimer:  d.windowTimer,
		windowLength: c.SpeedWindow,
		windowBytes:  max(1, int64(float64(c.MinBytesPerSecond)*c.SpeedWindow.Seconds())),
	}
	return copyBody(w, decodeBody(body, resp.Header, c.MaxBytes), &d.written)
}

// How much of an unused body drain reads, and for how long. A new connection
// is cheaper than more.
const (
	maxDrainBytes = 16 << 10
	maxDrainTime  = 50 * time.Millisecond
)

// drain reads a short body that is not used, so that its connection can be
// reused. cancel must end the request.
func drain(resp *http.Response, cancel context.CancelFunc) {
	if resp.ContentLength > maxDrainBytes || resp.StatusCode == http.StatusSwitchingProtocols {
		return // the body of 101 is the bare connection, which ignores the context
	}
	timer := time.AfterFunc(maxDrainTime, cancel)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrainBytes+1)
}
