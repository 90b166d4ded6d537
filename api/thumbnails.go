package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/felixge/httpsnoop"
	"github.com/gorilla/mux"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// thumbnailKey matches every key that MakeThumbnails writes or has written. No
// other key is read, so that no path can leave the bucket.
var thumbnailKey = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d{1,5}x\d{1,5}-([0-9a-f]{16}(?:-[0-9a-f]{8})?)(\.[a-z]+)$`)

// showThumbnail serves GET /thumbnails/{key} with support for a range and
// conditional requests. A key contains the digest of its content, so that the
// content never changes.
func (s *Server) showThumbnail(w http.ResponseWriter, r *http.Request) {
	key := mux.Vars(r)["key"]
	parts := thumbnailKey.FindStringSubmatch(key)
	if parts == nil {
		writeError(w, http.StatusNotFound, "There is no such thumbnail")
		return
	}
	if id, err := photo.ParseUUID(key[:strings.IndexByte(key, '/')]); err == nil {
		*photoLogAttrs(r) = telemetry.PhotoAttrs(id, "") // the key does not have the run
	}
	mediaType := ""
	for _, format := range photo.Formats {
		if format.Extension() == parts[2] {
			mediaType = format.MediaType()
		}
	}
	reader, err := s.Thumbnails.NewReader(r.Context(), key, nil)
	if mediaType == "" || bucket.IsMissing(r.Context(), s.Thumbnails, err) {
		writeError(w, http.StatusNotFound, "There is no such thumbnail")
		return
	}
	if err != nil {
		s.fail(w, r, fmt.Errorf("%w: %w", errBucketUnavailable, err))
		return
	}
	defer reader.Close()
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("ETag", `"`+parts[1]+`"`)
	caches := "public"
	if len(s.Config.APITokens) > 0 {
		caches = "private" // a shared cache would serve clients without a token
	}
	w.Header().Set("Cache-Control", caches+", max-age=31536000, immutable")
	// RFC 9110 has servers ignore unknown units, and allows them to ignore any
	// range: several would be a request to the bucket each.
	if wanted := r.Header.Get("Range"); !strings.HasPrefix(wanted, "bytes=") || strings.Contains(wanted, ",") {
		r.Header.Del("Range")
	}
	var content io.ReadSeeker = reader
	if r.Header.Get("Range") != "" && reader.Size() <= maxRangeBytes && memoryOf(r).try(reader.Size()) {
		// The reader would make another request to the bucket for the range.
		whole, err := io.ReadAll(reader)
		if err != nil {
			s.fail(w, r, fmt.Errorf("%w: %w", errBucketUnavailable, err))
			return
		}
		content = bytes.NewReader(whole)
	}
	http.ServeContent(withJSONErrors(w, reader.Size()), r, "", reader.ModTime(), content)
}

// maxRangeBytes is the size up to which a thumbnail is read whole to serve a
// range of it.
const maxRangeBytes = 1 << 20

// withJSONErrors returns a writer that replaces the errors of http.ServeContent,
// which are empty or text, by errors in JSON. It removes the headers that
// describe the picture: with them, a cache would keep the error for a year.
// size is the picture's, in bytes.
func withJSONErrors(w http.ResponseWriter, size int64) http.ResponseWriter {
	failed := false
	return httpsnoop.Wrap(w, httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(status int) {
				if status < http.StatusBadRequest {
					next(status)
					return
				}
				failed = true
				for _, name := range []string{"Accept-Ranges", "Cache-Control", "ETag", "Last-Modified"} {
					w.Header().Del(name)
				}
				switch status {
				case http.StatusPreconditionFailed:
					writeError(w, status, "If-Match or If-Unmodified-Since does not hold for this thumbnail")
				case http.StatusRequestedRangeNotSatisfiable:
					w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
					writeError(w, status, fmt.Sprintf("The thumbnail has %d bytes, and no such range", size))
				default:
					writeError(w, status, internalError)
				}
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(content []byte) (int, error) {
				if failed { // the message of http.ServeContent
					return len(content), nil
				}
				return next(content)
			}
		},
	})
}
