package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// photoAnswer is a photo in a list.
type photoAnswer struct {
	UUID      uuid.UUID    `json:"uuid"`
	URL       string       `json:"url"`
	Status    photo.Status `json:"status"`
	CreatedAt time.Time    `json:"created_at"`
}

// photoPage is a photo on its own.
type photoPage struct {
	photoAnswer
	UpdatedAt  time.Time         `json:"updated_at"`
	Thumbnails []thumbnailAnswer `json:"thumbnails"`
	Failure    *photo.Failure    `json:"failure,omitempty"`
	WorkflowID string            `json:"workflow_id"`
}

type thumbnailAnswer struct {
	UUID      uuid.UUID `json:"uuid"`
	Width     int       `json:"width"`
	Height    int       `json:"height"`
	URL       string    `json:"url"`
	CreatedAt time.Time `json:"created_at"`
}

func answerOf(p photo.Photo) photoAnswer {
	return photoAnswer{UUID: p.UUID, URL: shownURL(p.URL), Status: p.Status, CreatedAt: p.CreatedAt.UTC()}
}

func answersOf(photos []photo.Photo) []photoAnswer {
	answers := make([]photoAnswer, len(photos))
	for i, p := range photos {
		answers[i] = answerOf(p)
	}
	return answers
}

// shownURL is the URL without the password it may have.
func shownURL(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		return u.Redacted()
	}
	return raw
}

// showPhoto serves GET /photos/{uuid}.
func (s *Server) showPhoto(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(mux.Vars(r)["uuid"])
	if err != nil {
		s.fail(w, r, photo.ErrNotFound)
		return
	}
	*subject(r) = telemetry.About(id, "")
	p, err := s.DB.Photo(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	*subject(r) = telemetry.About(id, p.RunID)
	page := photoPage{
		photoAnswer: answerOf(p),
		UpdatedAt:   p.UpdatedAt.UTC(),
		Thumbnails:  make([]thumbnailAnswer, len(p.Thumbnails)),
		Failure:     p.Failure,
		WorkflowID:  photo.WorkflowID(id),
	}
	for i, t := range p.Thumbnails {
		page.Thumbnails[i] = thumbnailAnswer{t.UUID, t.Size.Width, t.Size.Height, t.Key, t.CreatedAt.UTC()}
	}
	writeJSON(w, http.StatusOK, page)
}

// listPhotos serves GET /photos/{status}.
func (s *Server) listPhotos(w http.ResponseWriter, r *http.Request) {
	status := photo.Status(mux.Vars(r)["status"])
	limit, after, err := page(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	// One more than asked for tells whether there is another page.
	photos, err := s.DB.Photos(r.Context(), status, after, limit+1)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(photos) > limit {
		photos = photos[:limit]
		last := photos[limit-1]
		next := url.Values{"after": {formatCursor(postgres.Cursor{CreatedAt: last.CreatedAt, UUID: last.UUID})}, "limit": {strconv.Itoa(limit)}}
		w.Header().Set("Link", fmt.Sprintf(`</photos/%s?%s>; rel="next"`, status, next.Encode()))
	}
	writeJSON(w, http.StatusOK, answersOf(photos))
}

func page(query url.Values) (limit int, after postgres.Cursor, err error) {
	limit = defaultPage
	if text := query.Get("limit"); text != "" {
		limit, err = strconv.Atoi(text)
		if err != nil || limit < 1 || limit > maxPage {
			return 0, after, badRequest("limit must be a whole number from 1 to %d, not %q", maxPage, text)
		}
	}
	if text := query.Get("after"); text != "" {
		if after, err = parseCursor(text); err != nil {
			return 0, after, badRequest("after must be taken from the Link header of the page before")
		}
	}
	return limit, after, nil
}

// A cursor is written as the time and the UUID of the page's last photo.
func formatCursor(c postgres.Cursor) string {
	return c.CreatedAt.UTC().Format(time.RFC3339Nano) + "_" + c.UUID.String()
}

func parseCursor(text string) (c postgres.Cursor, err error) {
	created, id, _ := strings.Cut(text, "_")
	if c.CreatedAt, err = time.Parse(time.RFC3339Nano, created); err != nil {
		return c, err
	}
	c.UUID, err = uuid.Parse(id)
	return c, err
}

// addPhotos serves POST /photos: one photo, or an array of them, all or none.
func (s *Server) addPhotos(w http.ResponseWriter, r *http.Request) {
	process, err := flag(r.URL.Query(), "process")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body, err := s.readBody(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	urls, err := parseURLs(body, s.Config.HTTPMaxPhotos)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	photos, err := s.DB.AddPhotos(r.Context(), urls)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answers := answersOf(photos)
	if process {
		ids := make([]uuid.UUID, len(photos))
		for i, p := range photos {
			ids[i] = p.UUID
		}
		if err := s.startWorkflows(r.Context(), ids); err != nil {
			if notStarted, ok := err.(*notStartedError); ok {
				notStarted.photos = answers
			}
			s.fail(w, r, err)
			return
		}
	}
	writeJSON(w, http.StatusCreated, answers)
}

// parseURLs reads {"url":"…"}, or an array of such objects.
func parseURLs(body []byte, limit int) ([]string, error) {
	var elements []json.RawMessage
	if object := (map[string]json.RawMessage)(nil); json.Unmarshal(body, &object) == nil && object != nil {
		elements = []json.RawMessage{body}
	} else if list, err := parseArray(body, limit); err == nil {
		elements = list
	} else {
		return nil, err
	}
	urls := make([]string, len(elements))
	for i, element := range elements {
		var given struct {
			URL *string `json:"url"`
		}
		if err := json.Unmarshal(element, &given); err != nil || given.URL == nil {
			return nil, badRequest(`Photo %d must be an object with a string "url"`, i+1)
		}
		if err := source.CheckURL(*given.URL); err != nil {
			return nil, badRequest("Photo %d: %s", i+1, err)
		}
		if len(*given.URL) > maxURLBytes {
			return nil, badRequest("Photo %d: the URL has %d bytes; the limit is %d", i+1, len(*given.URL), maxURLBytes)
		}
		urls[i] = *given.URL
	}
	return urls, nil
}

// maxURLBytes is what web servers accept of a request's first line.
const maxURLBytes = 8000

// flag reads a query parameter that is true or false; absent is false.
func flag(query url.Values, name string) (bool, error) {
	text := query.Get(name)
	if text == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest("%s must be true or false, not %q", name, text)
	}
	return value, nil
}
