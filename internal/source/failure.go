package source

import (
	"context"
	"crypto/tls"
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

// Error is a failure of the source or of its URL. Its text is the failure's
// message, which the photo's owner may see: it contains no part of the URL, no
// address, and no text that the source sent.
type Error struct {
	Failure *photo.Failure

	// Cause is a detail for the log, such as the address that refused the
	// connection, or empty. It contains no user, password or query of any URL,
	// and no bytes of the response.
	Cause string
}

func (e *Error) Error() string { return e.Failure.Message }
func (e *Error) Unwrap() error { return e.Failure }

// LogValue is the text with the cause, which Error omits.
func (e *Error) LogValue() slog.Value {
	if e.Cause == "" {
		return slog.StringValue(e.Error())
	}
	return slog.StringValue(e.Error() + ": " + e.Cause)
}

func newError(code photo.Code, format string, args ...any) *Error {
	return &Error{Failure: photo.Fail(code, format, args...)}
}

// phase is the progress of one HTTP request.
type phase int32

const (
	connecting phase = iota
	awaitingHeader
	readingBody
)

// toError turns an error inside a download into an error of Fetch. The order of
// the checks goes from certain to likely causes: an Error, the caller's
// cancellation, the writer, and then the fetcher's own limits and the network.
func (d *download) toError(err error) error {
	if sourceErr, ok := errors.AsType[*Error](err); ok {
		return sourceErr
	}
	if d.callerCtx.Err() != nil {
		return cancellationError(d.callerCtx)
	}
	if writeErr, ok := errors.AsType[*WriteError](err); ok {
		return writeErr
	}
	if errors.Is(err, ErrHostBusy) {
		return ErrHostBusy
	}
	return &Error{Failure: d.toFailure(err), Cause: d.redact(err)}
}

// toFailure derives the failure from the limit that was exceeded, or else from
// the network's error and the phase of the request.
func (d *download) toFailure(err error) *photo.Failure {
	c := &d.fetcher.config
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	dnsErr, isLookup := errors.AsType[*net.DNSError](err)
	switch cause := context.Cause(d.ctx); {
	case errors.Is(cause, errFetchTimeout):
		return photo.Fail(photo.SourceTimeout, "the source did not deliver the photo within %s", c.Timeout)
	case errors.Is(cause, errBodyTooSlow):
		return photo.Fail(photo.SourceTimeout, "the source sent less than %d bytes per second for %s", c.MinBytesPerSecond, c.SpeedWindow)

	case errors.Is(err, errBlocked) && d.redirects > 0:
		return photo.Fail(photo.SourceBlocked, "the source redirects to an address that is not public")
	case errors.Is(err, errBlocked):
		return photo.Fail(photo.SourceBlocked, "the source is at an address that is not public")
	case errors.Is(err, errTooLarge):
		return photo.Fail(photo.SourceTooLarge, "the source has more than %d bytes, which is the limit", c.MaxBytes)

	case isTimeout(err) && d.phase() == connecting:
		return photo.Fail(photo.SourceTimeout, "no connection to the source could be made within %s", c.ConnectTimeout)
	case isTimeout(err) && d.phase() == awaitingHeader:
		return photo.Fail(photo.SourceTimeout, "the source did not answer within %s", c.HeaderTimeout)
	case isTimeout(err): // such as the kernel's TCP timeout
		return photo.Fail(photo.SourceTimeout, "the connection to the source timed out")

	case isLookup && dnsErr.IsNotFound:
		return photo.Fail(photo.SourceUnavailable, "the source's host does not exist")
	case isLookup:
		return photo.Fail(photo.SourceUnavailable, "the source's host could not be looked up")
	case isCertificate:
		return photo.Fail(photo.SourceUnavailable, "the source's certificate could not be verified")
	case errors.Is(err, errInvalidGzip):
		return photo.Fail(photo.SourceUnavailable, "the source's gzip encoding is damaged")
	case d.phase() == connecting:
		return photo.Fail(photo.SourceUnavailable, "no connection to the source could be made")
	case d.phase() == awaitingHeader:
		return photo.Fail(photo.SourceUnavailable, "the source gave no valid answer")
	default:
		return photo.Fail(photo.SourceUnavailable, "the connection to the source broke before the whole photo had arrived")
	}
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

// cancellationError wraps the context's error and its cause.
func cancellationError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// statusError is the error for a response with any status but that of a photo.
// Its text has the standard's reason phrase, since the source's own could
// contain anything.
//
// Statuses without a code of their own are retryable: some are transient (429,
// 503) and some permanent (400), and their retries are bounded.
func statusError(resp *http.Response, now time.Time, maxRetryAfter time.Duration) *Error {
	status := strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
	code := photo.SourceUnavailable
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		code = photo.SourceNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		code = photo.SourceForbidden
	}
	err := newError(code, "the source answered %s", status)
	if code.IsRetryable() {
		err.Failure.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), now, maxRetryAfter)
	}
	return err
}

// parseRetryAfter parses a Retry-After header, which is a number of seconds or
// a date. The result is from 0 to limit, and 0 for an invalid header.
func parseRetryAfter(value string, now time.Time, limit time.Duration) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(limit/time.Second) { // of digits, the only error is their range
			return limit
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, date.Sub(now)), limit)
}
