// Package photojson has the JSON of photos and batches, which the API and
// webhooks show alike. api/openapi.yaml documents it. The types that are
// generated from it cannot replace these, because they order fields
// alphabetically.
package photojson

import (
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/source"
)

// Format is how photos are shown.
type Format struct {
	FullURLs      bool   // with the query of the source's URL
	TemporalUIURL string // of Temporal's Web UI; empty if unknown
	Namespace     string // of Temporal
}

// NewFormat returns the configured format.
func NewFormat(cfg config.Config, namespace string) Format {
	return Format{FullURLs: cfg.SourceURLsShown == config.SourceURLsFull, TemporalUIURL: cfg.TemporalUIURL, Namespace: namespace}
}

// PhotoSummary is a photo in a list.
type PhotoSummary struct {
	UUID      uuid.UUID    `json:"uuid"`
	URL       string       `json:"url"`
	Status    photo.Status `json:"status"`
	CreatedAt time.Time    `json:"created_at"`
	// Placeholder is a ThumbHash, in base64; absent before the photo has
	// thumbnails.
	Placeholder []byte       `json:"placeholder,omitempty"`
	Failure     *FailureCode `json:"failure,omitempty"`
}

// FailureCode is a failure without its message, which is in the detail.
type FailureCode struct {
	Code photo.Code `json:"code"`
}

// PhotoDetail is a photo with its thumbnails.
type PhotoDetail struct {
	PhotoSummary
	UpdatedAt  time.Time          `json:"updated_at"`
	Thumbnails []ThumbnailSummary `json:"thumbnails"`
	Failure    *photo.Failure     `json:"failure,omitempty"`
	WorkflowID string             `json:"workflow_id"`
	// WorkflowURL is in Temporal's Web UI; empty if that is unknown, or before
	// the first run.
	WorkflowURL string `json:"workflow_url,omitempty"`
}

// ThumbnailSummary is a thumbnail of a PhotoDetail.
type ThumbnailSummary struct {
	UUID      uuid.UUID `json:"uuid"`
	Width     int       `json:"width"`
	Height    int       `json:"height"`
	URL       string    `json:"url"`
	CreatedAt time.Time `json:"created_at"`
}

// Summary returns the JSON of a photo in a list.
func (f Format) Summary(p photo.Photo) PhotoSummary {
	redact := source.RedactURL
	if f.FullURLs {
		redact = source.RedactPassword
	}
	summary := PhotoSummary{UUID: p.UUID, URL: redact(p.URL), Status: p.Status, CreatedAt: p.CreatedAt.UTC(), Placeholder: p.Placeholder}
	if p.Failure != nil {
		summary.Failure = &FailureCode{p.Failure.Code}
	}
	return summary
}

// Detail returns the JSON of a photo with its thumbnails.
func (f Format) Detail(p photo.Photo) PhotoDetail {
	detail := PhotoDetail{
		PhotoSummary: f.Summary(p),
		UpdatedAt:    p.UpdatedAt.UTC(),
		Thumbnails:   make([]ThumbnailSummary, len(p.Thumbnails)),
		Failure:      p.Failure,
		WorkflowID:   photo.WorkflowID(p.UUID),
	}
	if f.TemporalUIURL != "" && p.RunID != "" {
		detail.WorkflowURL = fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/history",
			f.TemporalUIURL, url.PathEscape(f.Namespace), detail.WorkflowID, url.PathEscape(p.RunID))
	}
	for i, t := range p.Thumbnails {
		detail.Thumbnails[i] = ThumbnailSummary{t.UUID, t.Size.Width, t.Size.Height, t.Key, t.CreatedAt.UTC()}
	}
	return detail
}

// Batch is the progress of a batch.
type Batch struct {
	ID        uuid.UUID `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Total     int       `json:"total"`
	Counts
	Done     bool      `json:"done"`
	DoneAt   time.Time `json:"done_at,omitzero"`
	Canceled bool      `json:"canceled,omitempty"`
	Query    string    `json:"query,omitempty"`
}

// Counts are numbers of photos.
type Counts struct {
	Pending    int                `json:"pending"`
	Processing int                `json:"processing"`
	Completed  int                `json:"completed"`
	Failed     int                `json:"failed"`
	Failures   map[photo.Code]int `json:"failures"`
}

// ToCounts returns the JSON of counts.
func ToCounts(c photo.Counts) Counts {
	if c.Failures == nil {
		c.Failures = map[photo.Code]int{} // {}, not null
	}
	return Counts(c)
}

// ToBatch returns the JSON of a batch.
func ToBatch(b photo.Batch) Batch {
	return Batch{
		ID: b.ID, CreatedAt: b.CreatedAt.UTC(), Total: b.Total(), Counts: ToCounts(b.Counts),
		Done: !b.DoneAt.IsZero(), DoneAt: b.DoneAt.UTC(), Canceled: b.Canceled, Query: b.Query,
	}
}
