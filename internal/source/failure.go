package source

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Error is a failure that is the source's fault. Its text is that of the
// failure: it names neither the URL nor any part of it, nor any address, nor
// anything that the source said.
type Error struct {
	Failure *photo.Failure

	// Cause is what the log may know in addition, such as the address that
	// refused the connection. It may be empty, and holds neither the user nor the
	// password nor the query of any URL.
	Cause string
}

func (e *Error) Error() string { return e.Failure.Message }
func (e *Error) Unwrap() error { return e.Failure }

// LogValue shows the cause, which Error does not.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("code", string(e.Failure.Code)), slog.String("message", e.Failure.Message)}
	if e.Cause != "" {
		attrs = append(attrs, slog.String("cause", e.Cause))
	}
	return slog.GroupValue(attrs...)
}

func fail(code photo.Code, format string, args ...any) *Error {
	return &Error{Failure: photo.Fail(code, format, args...)}
}

// What ends a fetch that takes too long, as the cause of its context.
var (
	errTimeout = errors.New("the time for the fetch is over")
	errSlow    = errors.New("the body is too slow")
)

// phase is how far an exchange with a server came.
type phase int32

const (
	connecting phase = iota
	awaitingHeader
	readingBody
)

// explain turns an error of a fetch into what Fetch returns. In doubt it goes
// from the sure to the likely: a failure that is already one, our own
// cancellation, our own limits, and then what the network said.
func (a *attempt) explain(err error) error {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure
	}
	if a.caller.Err() != nil {
		return canceled(a.caller)
	}
	if werr, ok := errors.AsType[*WriteError](err); ok {
		return werr
	}
	return &Error{Failure: a.failure(err), Cause: a.scrub(err.Error())}
}

func (a *attempt) failure(err error) *photo.Failure {
	c := &a.f.config
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	dns, lookup := errors.AsType[*net.DNSError](err)
	switch cause := context.Cause(a.ctx); {
	case cause == errTimeout:
		return photo.Fail(photo.SourceTimeout, "the source did not deliver the photo within %s", c.Timeout)
	case cause == errSlow:
		return photo.Fail(photo.SourceTimeout, "the source sent less than %d bytes per second for %s", c.MinBytesPerSecond, c.SpeedWindow)

	case errors.Is(err, errBlocked) && a.redirects > 0:
		return photo.Fail(photo.SourceBlocked, "the source redirects to an address that is not public")
	case errors.Is(err, errBlocked):
		return photo.Fail(photo.SourceBlocked, "the source is at an address that is not public")
	case errors.Is(err, errTooLarge):
		return photo.Fail(photo.SourceTooLarge, "the source has more than %d bytes, which is the limit", c.MaxBytes)

	case isTimeout(err) && a.phase() == connecting:
		return photo.Fail(photo.SourceTimeout, "no connection to the source could be made within %s", c.ConnectTimeout)
	case isTimeout(err) && a.phase() == awaitingHeader:
		return photo.Fail(photo.SourceTimeout, "the source did not answer within %s", c.HeaderTimeout)
	case isTimeout(err): // such as the kernel's, of a peer that is gone
		return photo.Fail(photo.SourceTimeout, "the connection to the source timed out")

	case lookup && dns.IsNotFound:
		return photo.Fail(photo.SourceUnavailable, "the source's host does not exist")
	case lookup:
		return photo.Fail(photo.SourceUnavailable, "the source's host could not be looked up")
	case certificate:
		return photo.Fail(photo.SourceUnavailable, "the source's certificate could not be verified")
	case errors.Is(err, errBadGzip):
		return photo.Fail(photo.SourceUnavailable, "the source's gzip encoding is damaged")
	case a.phase() == connecting:
		return photo.Fail(photo.SourceUnavailable, "no connection to the source could be made")
	case a.phase() == awaitingHeader:
		return photo.Fail(photo.SourceUnavailable, "the source gave no valid answer")
	default:
		return photo.Fail(photo.SourceUnavailable, "the connection to the source broke before the whole photo had arrived")
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// canceled keeps both what happened and why.
func canceled(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// statusFailure is the failure for an answer that is no photo. The reason is
// spelt as the standard does, since the source could write anything there.
//
// Of the codes without a meaning of their own, some will be back (429, 503) and
// some will not (400); without a way to tell, all get the bounded retries.
func statusFailure(resp *http.Response, now time.Time, maxRetryAfter time.Duration) *Error {
	status := strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
	code := photo.SourceUnavailable
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		code = photo.SourceNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		code = photo.SourceForbidden
	}
	failure := fail(code, "the source answered %s", status)
	if code.IsRetryable() {
		failure.Failure.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), now, maxRetryAfter)
	}
	return failure
}

// retryAfter reads a Retry-After header, a number of seconds or a date, as a
// duration from 0 to most. What cannot be read is 0.
func retryAfter(value string, now time.Time, most time.Duration) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(most/time.Second) { // err is only ever out of range
			return most
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, date.Sub(now)), most)
}

// maxCauseBytes keeps a source from writing pages into the log.
const maxCauseBytes = 300

// scrub makes an error's text fit for the log. The errors of net and net/http
// hold no URLs, but some quote the answer, and a source may repeat in its answer
// what it was asked.
func (a *attempt) scrub(text string) string {
	text = strings.NewReplacer(a.secrets...).Replace(text)
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
	if len(text) > maxCauseBytes {
		text = strings.ToValidUTF8(text[:maxCauseBytes], "") + "…"
	}
	return text
}

// keepSecret has scrub remove what of a URL is nobody else's business.
func (a *attempt) keepSecret(t target) {
	var secrets []string
	if t.user != nil {
		password, _ := t.user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(t.user.Username() + ":" + password))
		secrets = append(secrets, basic, t.user.String(), password, t.user.Username())
	}
	secrets = append(secrets, t.url.RawQuery)
	for _, secret := range secrets {
		quoted := strconv.Quote(secret) // as %q in an error does it
		for _, s := range []string{secret, quoted[1 : len(quoted)-1]} {
			if s != "" {
				a.secrets = append(a.secrets, s, "[redacted]")
			}
		}
	}
}
