// Package photo defines the domain types that all packages share: a photo, its
// thumbnails, its status, the run that owns it, and its failures. It imports no
// other package of this module, and does not depend on HTTP, SQL, Temporal or
// libvips.
package photo

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Status is the state of a photo's processing:
//
//	pending ──▶ processing ──▶ completed
//	              ▲      └───▶ failed
//	              └── a completed or failed photo may be processed again
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

// IsFinal reports whether the photo is completed or failed.
func (s Status) IsFinal() bool { return s == Completed || s == Failed }

// Photo is one photo: what its client added, and the state of its processing.
type Photo struct {
	UUID      uuid.UUID
	URL       string // of the source; may contain credentials, so it is never logged
	Status    Status
	CreatedAt time.Time
	UpdatedAt time.Time

	Thumbnails []Thumbnail // ordered by width, then height; empty in lists of photos
	Failure    *Failure    // of the last run; nil unless Status is Failed
	RunID      string      // the run that owns, or last owned, the photo; empty before the first
}

// Thumbnail is one picture made from a photo.
type Thumbnail struct {
	UUID      uuid.UUID
	Size      Size   // of the picture, not of the box that it was fitted into
	Key       string // in the thumbnails bucket
	CreatedAt time.Time
}

// SourceInfo describes the bytes that a photo's URL returned.
type SourceInfo struct {
	Bytes     int64  `json:"bytes"`      // size in bytes
	SHA256    string `json:"sha256"`     // lower-case hexadecimal digest
	MediaType string `json:"media_type"` // detected from the bytes, such as "image/jpeg"
}

// Run is one run of a photo's workflow, and the fencing token of its writes: the
// newest run that has marked the photo owns it, and a write of an older run changes
// nothing.
type Run struct {
	Photo     uuid.UUID `json:"photo"`
	ID        string    `json:"id"`         // Temporal's run ID
	StartedAt time.Time `json:"started_at"` // workflow time of the first task; orders the runs of one photo
}

// WorkflowID returns the ID of the workflow that processes the photo. Temporal allows
// one open workflow with an ID, and so one for each photo.
func WorkflowID(id uuid.UUID) string { return workflowPrefix + id.String() }

const workflowPrefix = "process-photo-"

// ParseWorkflowID returns the photo that the workflow with this ID processes; ok is
// false for an ID that WorkflowID does not return.
func ParseWorkflowID(workflowID string) (id uuid.UUID, ok bool) {
	text, ok := strings.CutPrefix(workflowID, workflowPrefix)
	if !ok {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}

// IDs are UUIDs of photos. Their text form is base64 of 16 bytes each, about 21
// characters: Temporal limits the size of an input, and a batch has thousands.
type IDs []uuid.UUID

// MarshalText returns the UUIDs' bytes in base64.
func (ids IDs) MarshalText() ([]byte, error) {
	packed := make([]byte, 0, 16*len(ids))
	for _, id := range ids {
		packed = append(packed, id[:]...)
	}
	return base64.StdEncoding.AppendEncode(nil, packed), nil
}

// UnmarshalText decodes the output of MarshalText.
func (ids *IDs) UnmarshalText(text []byte) error {
	packed, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("UUIDs: %w", err)
	}
	if len(packed)%16 != 0 {
		return fmt.Errorf("UUIDs: %d bytes are not a multiple of 16", len(packed))
	}
	*ids = make(IDs, 0, len(packed)/16)
	for id := range slices.Chunk(packed, 16) {
		*ids = append(*ids, uuid.UUID(id))
	}
	return nil
}

// MaxDimension is the largest width and height of a thumbnail, in pixels. Their
// columns are smallint.
const MaxDimension = 1<<15 - 1

// Size is a width and a height in pixels, of a picture or of the box that thumbnails
// are fitted into.
type Size struct {
	Width, Height int
}

// String returns the size in the form of ParseSize, such as "320x240".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// ParseSize parses a size such as "320x240". Both sides must be from 1 to
// MaxDimension.
func ParseSize(text string) (Size, error) {
	w, h, ok := strings.Cut(strings.ToLower(strings.TrimSpace(text)), "x")
	if !ok {
		return Size{}, fmt.Errorf("size %q is not WIDTHxHEIGHT, such as 320x320", text)
	}
	var sides [2]int
	for i, digits := range []string{w, h} {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || n < 1 || n > MaxDimension {
			return Size{}, fmt.Errorf("size %q: a side must be a whole number from 1 to %d, not %q", text, MaxDimension, digits)
		}
		sides[i] = int(n)
	}
	return Size{sides[0], sides[1]}, nil
}
