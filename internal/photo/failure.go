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
	NotFound           Code = "photo_not_found"     // no such row
	InvalidURL         Code = "invalid_url"         // not http or https, or no host
	SourceBlocked      Code = "source_blocked"      // at a private, local or otherwise refused address
	SourceNotFound     Code = "source_not_found"    // 404 or 410
	SourceForbidden    Code = "source_forbidden"    // 401 or 403
	SourceUnavailable  Code = "source_unavailable"  // any other 4xx or 5xx, or the network failed
	SourceTimeout      Code = "source_timeout"      // too slow
	SourceTooLarge     Code = "source_too_large"    // more bytes than allowed
	ImageTooLarge      Code = "image_too_large"     // more pixels or frames than allowed, seen before decoding
	UnsupportedImage   Code = "unsupported_image"   // not an allowed format
	CorruptImage       Code = "corrupt_image"       // cannot be decoded
	RenderCrashed      Code = "render_crashed"      // the renderer died on this photo
	RenderTimeout      Code = "render_timeout"      // the renderer was given up on this photo
	StorageUnavailable Code = "storage_unavailable" // a bucket is full or away; outlasted, so no photo ends with it
	Canceled           Code = "canceled"            // someone cancelled the workflow
	Internal           Code = "internal"            // a defect of ours; the log has the details
)

// attempts is how often a step is tried in all before a failure with the code
// ends the photo. Codes that are not listed cannot go away by themselves: one
// attempt is all they get.
var attempts = map[Code]int{
	// A source that restarts, sheds load or moves is usually back within
	// minutes; with the workflow's backoff five attempts span about two.
	SourceUnavailable: 5,
	SourceTimeout:     5,
	// Once can be bad luck, such as memory that was short. Twice is the picture.
	RenderCrashed: 2,
	RenderTimeout: 2,
	Internal:      3,
}

// Attempts is how many attempts a step gets, in all, against failures with
// this code. It is at least 1.
func (c Code) Attempts() int { return max(1, attempts[c]) }

// Retryable tells whether another attempt may end differently.
func (c Code) Retryable() bool { return c.Attempts() > 1 }

// Failure says why a photo could not be processed. It is for the photo's
// owner: Message never holds credentials, addresses inside our network, or
// anything else that only the log may have.
type Failure struct {
	Code    Code
	Message string

	// RetryAfter is how long the source asked us to wait; 0 if it did not.
	RetryAfter time.Duration
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
