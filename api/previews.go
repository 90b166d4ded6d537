package api

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// photoPreview is PhotoPreview in openapi.yaml.
type photoPreview struct {
	photojson.PhotoSummary
	UpdatedAt time.Time         `json:"updated_at"`
	Thumbnail *thumbnailPreview `json:"thumbnail,omitempty"`
}

type thumbnailPreview struct {
	URL    string `json:"url"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

func (s *Server) toPreview(p photo.Photo) photoPreview {
	preview := photoPreview{PhotoSummary: s.format().Summary(p), UpdatedAt: p.UpdatedAt.UTC()}
	if len(p.Thumbnails) > 0 {
		t := p.Thumbnails[0]
		preview.Thumbnail = &thumbnailPreview{t.Key, t.Size.Width, t.Size.Height}
	}
	return preview
}

// listPreviews serves GET /photos.
func (s *Server) listPreviews(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	selection, err := parseFilter(query)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	filter := url.Values{}
	for _, name := range []string{"status", "code"} {
		if query.Has(name) {
			filter.Set(name, query.Get(name))
		}
	}
	s.servePhotos(w, r, filter, func(after postgres.Cursor, limit int) ([]photo.Photo, error) {
		return s.DB.PhotoPreviews(r.Context(), selection, after, limit)
	}, func(p photo.Photo) any { return s.toPreview(p) })
}

// countPhotos serves GET /photos/counts.
func (s *Server) countPhotos(w http.ResponseWriter, r *http.Request) {
	counts, err := s.counter.read(r.Context(), s.DB)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, photojson.ToCounts(counts))
}

// minReusedDuration is how long a count must take for its result to be reused
// until nextCountTime. It takes that long with about a million photos.
const minReusedDuration = 100 * time.Millisecond

// photoCounter counts the photos for one request at a time.
type photoCounter struct {
	mu     sync.Mutex
	counts photo.Counts
	next   time.Time // when counts are no longer reused
}

func (c *photoCounter) read(ctx context.Context, db *postgres.DB) (photo.Counts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	if began.Before(c.next) {
		return c.counts, nil
	}
	counts, err := db.CountPhotos(ctx)
	if err == nil && time.Since(began) >= minReusedDuration {
		c.counts, c.next = counts, nextCountTime(began)
	}
	return counts, err
}
