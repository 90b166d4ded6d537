// Package photo defines the domain types that all packages share: a photo, its
// thumbnails, its status, the run that owns it, and its failures. It imports no
// other package of this module, and does not depend on HTTP, SQL, Temporal or
// libvips.
package photo

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Status is the state of a photo's processing:
//
//	pending ──▶ processing ──▶ completed
//	   │             └───────▶ failed
//	   └─────────────────────▶ failed, if the run is canceled before MarkProcessing
//
// A completed or failed photo may be processed again, in the same way as a
// pending one.
type Status string

// The statuses. PostgreSQL's enum photo_status has the same values.
const (
	Pending    Status = "pending"
	Processing Status = "processing"
	Completed  Status = "completed"
	Failed     Status = "failed"
)

// Statuses lists every status, in the order in which a photo passes them.
var Statuses = []Status{Pending, Processing, Completed, Failed}

// IsValid reports whether s is one of Statuses.
func (s Status) IsValid() bool { return slices.Contains(Statuses, s) }

// IsFinal reports whether the photo is completed or failed.
func (s Status) IsFinal() bool { return s == Completed || s == Failed }

// Photo is one photo: what its client added, and the state of its processing.
type Photo struct {
	UUID      uuid.UUID
	URL       string // of the source; may contain credentials, so it is never logged
	Status    Status
	CreatedAt time.Time
	UpdatedAt time.Time

	Thumbnails  []Thumbnail // ordered by width, then height; empty in lists of photos
	Placeholder []byte      // made with the thumbnails; see Rendering
	Failure     *Failure    // of the last run; nil unless Status is Failed
	RunID       string      // the run that owns, or last owned, the photo; empty before the first
}

// Thumbnail is a stored thumbnail of a photo.
type Thumbnail struct {
	UUID      uuid.UUID
	Size      Size   // not of the box that the thumbnail was fitted into
	Key       string // in the thumbnails bucket
	CreatedAt time.Time
}

// SourceInfo describes the bytes that a photo's URL returned.
type SourceInfo struct {
	Bytes     int64  `json:"bytes"`      // size in bytes
	SHA256    string `json:"sha256"`     // lower-case hexadecimal digest
	MediaType string `json:"media_type"` // detected from the bytes, such as "image/jpeg"
}
