// Package photo is the vocabulary that every other package speaks: a photo, its
// thumbnails, its status, the run that owns it, and the ways it can fail. It
// imports nothing else of ours, and knows nothing of HTTP, SQL, Temporal or
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

// Status is where a photo stands:
//
//	pending ──▶ processing ──▶ completed
//	              ▲      └───▶ failed
//	              └── processing again is allowed from completed and failed
type Status string

// The statuses, as the enum photo_status in PostgreSQL spells them.
const (
	Pending    Status = "pending"
	Processing Status = "processing"
	Completed  Status = "completed"
	Failed     Status = "failed"
)

// Statuses lists every status, in the order in which a photo passes them.
var Statuses = []Status{Pending, Processing, Completed, Failed}

// IsFinal is true once the photo has been processed, successfully or not.
func (s Status) IsFinal() bool { return s == Completed || s == Failed }

// Photo is one row of the table that clients fill, with what processing found.
type Photo struct {
	UUID      uuid.UUID
	URL       string // where the source is; may carry credentials, so it is never logged
	Status    Status
	CreatedAt time.Time
	UpdatedAt time.Time

	Thumbnails []Thumbnail // by width, then height; empty unless asked for
	Failure    *Failure    // why the last run failed; nil otherwise
	RunID      string      // the run that owns, or last owned, the photo; empty before the first
}

// Thumbnail is one picture made from a photo.
type Thumbnail struct {
	UUID      uuid.UUID
	Size      Size   // its real size in pixels, never the box it was fitted into
	Key       string // its key in the thumbnails bucket
	CreatedAt time.Time
}

// SourceInfo describes the bytes that a photo's URL returned.
type SourceInfo struct {
	Bytes     int64  `json:"bytes"`      // their number
	SHA256    string `json:"sha256"`     // their digest, lower-case hexadecimal
	MediaType string `json:"media_type"` // what the bytes themselves say they are, such as "image/jpeg"
}

// Run identifies one execution of the workflow for one photo. It fences every
// write: the newest run owns the photo, and a late attempt of an older run
// changes nothing.
type Run struct {
	Photo     uuid.UUID `json:"photo"`
	ID        string    `json:"id"`         // Temporal's run id
	StartedAt time.Time `json:"started_at"` // in workflow time; orders the runs of one photo
}

// WorkflowID is the id of the workflow that processes the photo. It is derived
// from the canonical UUID, so that a photo has at most one open workflow.
func WorkflowID(id uuid.UUID) string { return workflowPrefix + id.String() }

const workflowPrefix = "process-photo-"

// OfWorkflow tells which photo a workflow processes, by its id; false if it
// processes none.
func OfWorkflow(workflowID string) (uuid.UUID, bool) {
	text, ok := strings.CutPrefix(workflowID, workflowPrefix)
	if !ok {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}

// IDs are photos' UUIDs, which as text are 16 bytes each in base64: lists of
// thousands pass through Temporal, which takes messages of some megabytes.
type IDs []uuid.UUID

// MarshalText gives the UUIDs' bytes in base64.
func (ids IDs) MarshalText() ([]byte, error) {
	packed := make([]byte, 0, 16*len(ids))
	for _, id := range ids {
		packed = append(packed, id[:]...)
	}
	return base64.StdEncoding.AppendEncode(nil, packed), nil
}

// UnmarshalText reads what MarshalText gives.
func (ids *IDs) UnmarshalText(text []byte) error {
	packed, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("UUIDs: %w", err)
	}
	if len(packed)%16 != 0 {
		return fmt.Errorf("UUIDs: %d bytes are no multiple of 16", len(packed))
	}
	*ids = make(IDs, 0, len(packed)/16)
	for id := range slices.Chunk(packed, 16) {
		*ids = append(*ids, uuid.UUID(id))
	}
	return nil
}

// MaxDimension bounds both sides of a thumbnail, in pixels: the columns width
// and height are smallint.
const MaxDimension = 1<<15 - 1

// Size is a width and a height in pixels: of a picture, or of the box that a
// thumbnail is fitted into.
type Size struct {
	Width, Height int
}

// String gives the size as ParseSize reads it, such as "320x240".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// ParseSize reads "320x240". Both sides must be from 1 to MaxDimension.
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
