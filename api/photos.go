package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	// defaultPage and maxPage are numbers of photos in a page of a list.
	defaultPage = 100
	maxPage     = 1000
	// maxPageBytes is the size at which a page of a list ends, and pageMemory
	// what reading and writing one takes. queryPhotos is the number of photos
	// that are read at one time: a URL may have maxURLBytes.
	maxPageBytes = 1 << 20
	pageMemory   = 3 << 20
	queryPhotos  = 128
	// maxURLBytes is the length that web servers accept of a request's first
	// line.
	maxURLBytes = 8000
)

// format is how the API shows photos.
func (s *Server) format() photojson.Format { return photojson.NewFormat(s.Config, s.Namespace) }

func (s *Server) toSummaries(photos []photo.Photo) []photojson.PhotoSummary {
	format := s.format()
	summaries := make([]photojson.PhotoSummary, len(photos)) // an empty list is [], not null
	for i, p := range photos {
		summaries[i] = format.Summary(p)
	}
	return summaries
}

// showPhoto serves GET /photos/{uuid}.
func (s *Server) showPhoto(w http.ResponseWriter, r *http.Request) {
	id, err := photo.ParseUUID(mux.Vars(r)["uuid"])
	if err != nil {
		s.fail(w, r, photo.ErrNotFound)
		return
	}
	*photoLogAttrs(r) = telemetry.PhotoAttrs(id, "")
	p, err := s.DB.Photo(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	*photoLogAttrs(r) = telemetry.PhotoAttrs(id, p.RunID)
	writeJSON(w, http.StatusOK, s.format().Detail(p))
}

// deletePhoto serves DELETE /photos/{uuid}. A workflow removes everything, also if
// this process dies; the rows are deleted here, too, so that the photo is gone
// when the client has the response.
func (s *Server) deletePhoto(w http.ResponseWriter, r *http.Request) {
	id, err := photo.ParseUUID(mux.Vars(r)["uuid"])
	if err != nil {
		s.fail(w, r, photo.ErrNotFound)
		return
	}
	*photoLogAttrs(r) = telemetry.PhotoAttrs(id, "")
	if _, err := s.DB.Photo(r.Context(), id); err != nil {
		s.fail(w, r, err)
		return
	}
	if _, err := s.starter().StartDelete(r.Context(), id); err != nil {
		s.fail(w, r, &temporalError{err})
		return
	}
	if err := s.DB.DeletePhoto(r.Context(), id); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// listPhotos serves GET /photos/{status}.
func (s *Server) listPhotos(w http.ResponseWriter, r *http.Request) {
	status := photo.Status(mux.Vars(r)["status"])
	s.servePhotos(w, r, nil, func(after postgres.Cursor, limit int) ([]photo.Photo, error) {
		return s.DB.Photos(r.Context(), status, after, limit)
	}, func(p photo.Photo) any { return s.format().Summary(p) })
}

// servePhotos writes a page of the photos that list reads, each as the JSON of
// show. The filter is the part of the query that selects the list's photos.
func (s *Server) servePhotos(w http.ResponseWriter, r *http.Request, filter url.Values, list func(postgres.Cursor, int) ([]photo.Photo, error), show func(photo.Photo) any) {
	limit, after, err := beginPage(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page, next, err := readPage(limit, after, list, show)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if next != nil {
		setNextPage(w, r.URL.Path, *next, limit, filter)
	}
	writeJSON(w, http.StatusOK, page)
}

// beginPage reads the query parameters of a list, and waits for the memory that a
// page takes.
func beginPage(r *http.Request) (limit int, after postgres.Cursor, err error) {
	if limit, after, err = parsePage(r.URL.Query()); err != nil {
		return 0, after, err
	}
	return limit, after, memoryOf(r).wait(r.Context(), pageMemory)
}

// setNextPage announces the next page of a list, which begins after the cursor.
func setNextPage(w http.ResponseWriter, path string, after postgres.Cursor, limit int, filter url.Values) {
	query := url.Values{"after": {formatCursor(after)}, "limit": {strconv.Itoa(limit)}}
	maps.Copy(query, filter)
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, path, query.Encode()))
}

// readPage reads the photos of one page with list, each as the JSON of show, and
// the cursor of the next page, which is nil after the last photo. A page ends
// after limit photos, or when it has maxPageBytes.
func readPage(limit int, after postgres.Cursor, list func(postgres.Cursor, int) ([]photo.Photo, error), show func(photo.Photo) any) (page []json.RawMessage, next *postgres.Cursor, err error) {
	page = []json.RawMessage{} // an empty list is [], not null
	for size := 0; ; {
		// The extra photo shows that there is another page.
		wanted := min(limit+1-len(page), queryPhotos)
		photos, err := list(after, wanted)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range photos {
			if len(page) == limit || size >= maxPageBytes {
				return page, &after, nil
			}
			summary := encodeJSON(show(p))
			page, size = append(page, summary), size+len(summary)
			after = postgres.Cursor{CreatedAt: p.CreatedAt, UUID: p.UUID}
		}
		if len(photos) < wanted {
			return page, nil, nil
		}
	}
}

// parsePage reads the query parameters of a list.
func parsePage(query url.Values) (limit int, after postgres.Cursor, err error) {
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

// formatCursor formats a cursor as the creation time and the UUID of the last
// photo of a page.
func formatCursor(c postgres.Cursor) string {
	return c.CreatedAt.UTC().Format(time.RFC3339Nano) + "_" + c.UUID.String()
}

func parseCursor(text string) (c postgres.Cursor, err error) {
	created, id, _ := strings.Cut(text, "_")
	if c.CreatedAt, err = time.Parse(time.RFC3339Nano, created); err != nil {
		return c, err
	}
	c.UUID, err = photo.ParseUUID(id)
	return c, err
}

// addPhotos serves POST /photos. It adds all photos of the request, or none.
func (s *Server) addPhotos(w http.ResponseWriter, r *http.Request) {
	process, err := parseFlag(r.URL.Query(), "process")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body, err := s.readBody(w, r, s.Config.HTTPMaxURLsBytes)
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
	summaries := s.toSummaries(photos)
	if process {
		ids := make([]uuid.UUID, len(photos))
		for i, p := range photos {
			ids[i] = p.UUID
		}
		batch, err := s.startWorkflows(r.Context(), ids)
		if err != nil {
			if notStarted, ok := errors.AsType[*notStartedError](err); ok {
				notStarted.photos = summaries
			}
			s.fail(w, r, err)
			return
		}
		setBatchLocation(w, batch)
	}
	writeJSON(w, http.StatusCreated, summaries)
}

// parseURLs parses {"url":"…"}, or an array of at most limit such objects.
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
		if len(*given.URL) > maxURLBytes {
			return nil, badRequest("Photo %d: the URL has %d bytes; the limit is %d", i+1, len(*given.URL), maxURLBytes)
		}
		if err := source.CheckURL(*given.URL); err != nil {
			return nil, badRequest("Photo %d: %s", i+1, err)
		}
		urls[i] = *given.URL
	}
	return urls, nil
}

// parseFlag parses a boolean query parameter, which defaults to false.
func parseFlag(query url.Values, name string) (bool, error) {
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
