package photo

import (
	"errors"
	"fmt"
	"time"
)

// Code is the reason of a photo's failure. It is stored on the photo, shown by
// the API, and is the type of the Temporal application error. Codes are part of
// the API: new ones may be added, and none may be renamed.
type Code string

// The codes. NotFound alone is never stored, because there is no photo to store
// it on.
//
// SourceUnavailable is every fault of a source without a code of its own: a
// network, DNS or certificate error, too many redirects, a redirect to no valid
// http or https URL, a truncated body, damaged gzip, and any status but 200,
// 203 and the 206 of a whole photo, such as 202, 204 or 503.
const (
	NotFound          Code = "photo_not_found"    // no photo has the UUID
	InvalidURL        Code = "invalid_url"        // the client's URL is no http or https URL of a host
	SourceBlocked     Code = "source_blocked"     // an address that is not public, also after a redirect
	SourceNotFound    Code = "source_not_found"   // 404 or 410
	SourceForbidden   Code = "source_forbidden"   // 401 or 403
	SourceUnavailable Code = "source_unavailable" // no photo in the response, or no response
	SourceTimeout     Code = "source_timeout"     // too slow
	SourceTooLarge    Code = "source_too_large"   // more bytes than allowed
	ImageTooLarge     Code = "image_too_large"    // needs more pixels, frames or memory than allowed
	UnsupportedImage  Code = "unsupported_image"  // not an allowed format
	CorruptImage      Code = "corrupt_image"      // cannot be decoded
	RenderCrashed     Code = "render_crashed"     // a render process crashed on the photo, or five workers in a row were lost
	RenderTimeout     Code = "render_timeout"     // rendering took too long
	Canceled          Code = "canceled"           // the workflow was canceled or terminated
	Internal          Code = "internal"           // a defect of photo-processor; the worker's log has the details
)

// Codes lists the codes that are stored on photos.
var Codes = []Code{
	InvalidURL, SourceBlocked, SourceNotFound, SourceForbidden, SourceUnavailable, SourceTimeout, SourceTooLarge, ImageTooLarge,
	UnsupportedImage, CorruptImage, RenderCrashed, RenderTimeout, Canceled, Internal,
}

// retryBudgets is the only list of retryable codes. It maps each to the number
// of failures with the code that fail the photo. A code that is not in the list
// is permanent: its first failure fails the photo.
var retryBudgets = map[Code]int{
	// A source that restarts or sheds load is usually back within two minutes.
	// With the backoff of the workflow's retry policy, five attempts span 80
	// seconds, or longer if the source sends Retry-After.
	SourceUnavailable: 5,
	SourceTimeout:     5,
	// One failure may have a transient cause, such as a shortage of memory.
	// After two, the picture is the likely cause.
	RenderCrashed: 2,
	RenderTimeout: 2,
	// A deployment may fix the defect between attempts.
	Internal: 3,
}

// RetryBudget returns the number of failures with the code that fail the photo,
// at least 1.
func (c Code) RetryBudget() int { return max(1, retryBudgets[c]) }

// IsRetryable reports whether the first failure with the code is retried.
func (c Code) IsRetryable() bool { return c.RetryBudget() > 1 }

// ErrorType returns the type of the Temporal application error with the code:
// the code itself, except for NotFound, whose type is the documented
// "PhotoNotFound".
func (c Code) ErrorType() string {
	if c == NotFound {
		return "PhotoNotFound"
	}
	return string(c)
}

// ErrNotFound means that no photo has the UUID.
var ErrNotFound = errors.New("there is no photo with this UUID")

// ErrSuperseded means that the run does not own the photo: a newer run does, or
// the run has finished. The failed operation changed nothing.
var ErrSuperseded = errors.New("the photo is no longer this run's")

// Failure is the reason why processing a photo failed. Clients see it, so that
// Message must not contain credentials, internal addresses or details of
// defects.
type Failure struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`

	// RetryAfter is the delay that the source requested; 0 if it requested
	// none. It is not stored on the photo.
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
}

// Fail returns a failure with a formatted message.
func Fail(code Code, format string, args ...any) *Failure {
	return &Failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error returns the message, without the code.
func (f *Failure) Error() string { return f.Message }

// CodeOf returns the code of the *Failure in err's chain; "" if there is none.
func CodeOf(err error) Code {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Code
	}
	return ""
}
