package api

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// photoStatus is PhotoStatus in openapi.yaml.
type photoStatus struct {
	UUID      uuid.UUID      `json:"uuid"`
	Status    photo.Status   `json:"status"`
	UpdatedAt time.Time      `json:"updated_at"`
	Failure   *photo.Failure `json:"failure,omitempty"`
}

// readStatuses serves POST /photos/status. It is a POST, because the UUIDs of
// many photos are too long for a URL.
func (s *Server) readStatuses(w http.ResponseWriter, r *http.Request) {
	elements, err := s.readArray(w, r, maxPage)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	parsed, ids := partitionUUIDs(elements)
	if len(parsed.Rejected) > 0 {
		s.fail(w, r, badRequest("Elements that are not UUIDs: %d", len(parsed.Rejected)))
		return
	}
	photos, err := s.DB.PhotosByUUID(r.Context(), ids)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	statuses := make([]photoStatus, len(photos))
	for i, p := range photos {
		statuses[i] = photoStatus{p.UUID, p.Status, p.UpdatedAt.UTC(), p.Failure}
	}
	writeJSON(w, http.StatusOK, statuses)
}
