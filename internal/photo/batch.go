package photo

import (
	"time"

	"github.com/google/uuid"
)

// Batch is the progress of the photos of one request. Each photo is counted
// once. It is pending until it is processed for this batch, also if it was
// completed or failed before.
type Batch struct {
	ID        uuid.UUID
	CreatedAt time.Time
	Query     string // of the request that selected the photos; empty if their UUIDs were posted
	Canceled  bool   // photos that were not started have left the batch
	Counts
	// DoneAt is when all photos were found completed or failed; zero before. The
	// counts of a batch that is done no longer change.
	DoneAt time.Time
}

// Counts are numbers of photos by status.
type Counts struct {
	Pending, Processing, Completed, Failed int

	Failures map[Code]int // of the failed photos; nil if there are none
}

// Total returns the number of photos.
func (c Counts) Total() int { return c.Pending + c.Processing + c.Completed + c.Failed }

// Add counts n more photos. The code is empty unless they have failed, and for
// photos that failed before codes were recorded.
func (c *Counts) Add(status Status, code Code, n int) {
	switch status {
	case Pending:
		c.Pending += n
	case Processing:
		c.Processing += n
	case Completed:
		c.Completed += n
	case Failed:
		c.Failed += n
		if code == "" {
			return
		}
		if c.Failures == nil {
			c.Failures = map[Code]int{}
		}
		c.Failures[code] += n
	}
}

// Selection is a set of photos: those that have the status, and have failed
// with the code unless that is empty, and were added before CreatedBefore
// unless that is zero.
type Selection struct {
	Status        Status    `json:"status"`
	Code          Code      `json:"code,omitempty"`
	CreatedBefore time.Time `json:"created_before,omitzero"`
}
