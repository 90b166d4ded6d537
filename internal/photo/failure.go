package photo

import (
	"errors"
	"fmt"
	"time"
)

// Code names a way in which processing a photo can fail. It is stored on the
// photo, shown by the API, and is the type of the Temporal application error.
// Codes are part of the contract: they may be added to, never renamed.
type Code string

// The taxonomy.
const (
	NotFound          Code = "photo_not_found"    // no such row
	InvalidURL        Code = "invalid_url"        // not http or https, or no host
	SourceBlocked     Code = "source_blocked"     // at a private, local or otherwise refused address
	SourceNotFound    Code = "source_not_found"   // 404 or 410
	SourceForbidden   Code = "source_forbidden"   // 401 or 403
	SourceUnavailable Code = "source_unavailable" // any other 4xx or 5xx, or the network failed
	SourceTimeout     Code = "source_timeout"     // too slow
	SourceTooLarge    Code = "source_too_large"   // more bytes than allowed
	ImageTooLarge     Code = "image_too_large"    // more pixels or frames than allowed, seen before decoding; or more memory
	UnsupportedImage  Code = "unsupported_image"  // not an allowed format
	CorruptImage      Code = "corrupt_image"      // cannot be decoded
	RenderCrashed     Code = "render_crashed"     // the renderer died on this photo
	RenderTimeout     Code = "render_timeout"     // the renderer was given up on this photo
	Canceled          Code = "canceled"           // someone cancelled the workflow
	Internal          Code = "internal"           // a defect of ours; the log has the details
)

// retryBudgets is the one list of the codes that are retried: how many failures
// with the code it takes to fail the photo. Any other code fails it at once,
// because it cannot go away by itself.
var retryBudgets = map[Code]int{
	// A source that restarts or sheds load is usually back within two minutes:
	// with the backoff of the workflow's retry policy, five attempts span 80
	// seconds, or as much as Retry-After asks for.
	SourceUnavailable: 5,
	SourceTimeout:     5,
	// Once can be bad luck, such as memory that was short; twice is the picture.
	RenderCrashed: 2,
	RenderTimeout: 2,
	// A defect of photo-processor; a deployment may be mending it.
	Internal: 3,
}

// RetryBudget is how many failures with the code fail the photo, at least 1.
func (c Code) RetryBudget() int { return max(1, retryBudgets[c]) }

// IsRetryable is true if another attempt may end differently.
func (c Code) IsRetryable() bool { return c.RetryBudget() > 1 }

// ErrorType is the type of the Temporal application error that carries the
// code: the code itself. Only for a photo that does not exist, whose code is
// stored nowhere, it is the name that the HTTP contract gives.
func (c Code) ErrorType() string {
	if c == NotFound {
		return "PhotoNotFound"
	}
	return string(c)
}

// ErrNotFound says that no photo has the UUID.
var ErrNotFound = errors.New("there is no photo with this UUID")

// ErrSuperseded says that a newer run has taken the photo over, or that this
// one has finished it: nothing was changed.
var ErrSuperseded = errors.New("the photo is no longer this run's")

// Failure says why a photo could not be processed. It is for the photo's
// owner: Message never holds credentials, addresses inside our network, or
// anything else that only the log may have.
type Failure struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`

	// RetryAfter is how long the source asked to wait; 0 if it did not. It is not stored.
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
}

// Fail makes a failure with a formatted message.
func Fail(code Code, format string, args ...any) *Failure {
	return &Failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives the message alone; the code travels beside it.
func (f *Failure) Error() string { return f.Message }

// CodeOf gives the code of the failure in err's chain, or "" if there is none.
func CodeOf(err error) Code {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Code
	}
	return ""
}
