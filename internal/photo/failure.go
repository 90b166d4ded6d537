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
	ImageTooLarge      Code = "image_too_large"     // more pixels or frames than allowed, seen before decoding; or more memory
	UnsupportedImage   Code = "unsupported_image"   // not an allowed format
	CorruptImage       Code = "corrupt_image"       // cannot be decoded
	RenderCrashed      Code = "render_crashed"      // the renderer died on this photo
	RenderTimeout      Code = "render_timeout"      // the renderer was given up on this photo
	StorageUnavailable Code = "storage_unavailable" // a bucket is full or away; outlasted, so no photo ends with it
	Canceled           Code = "canceled"            // someone cancelled the workflow
	Internal           Code = "internal"            // a defect of ours; the log has the details
)

// Retryable tells whether another attempt may end differently. How many there
// are is the workflow's to say.
func (c Code) Retryable() bool {
	switch c {
	case SourceUnavailable, SourceTimeout, StorageUnavailable, RenderCrashed, RenderTimeout, Internal:
		return true
	default:
		return false
	}
}

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

	// RetryAfter is how long the source asked us to wait; 0 if it did not.
	RetryAfter time.Duration `json:"-"`
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
