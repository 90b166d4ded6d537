package api

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// thumbnailKey is what every key that MakeThumbnails writes looks like. What
// looks otherwise is no thumbnail, so that no path can leave the bucket.
var thumbnailKey = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d{1,5}x\d{1,5}-([0-9a-f]{16})(\.[a-z]+)$`)

// lacksThumbnail tells whether the error of a read means that the bucket does
// not have the thumbnail, and not that there is no bucket.
func (s *Server) lacksThumbnail(ctx context.Context, err error) bool {
	if gcerrors.Code(err) != gcerrors.NotFound {
		return false
	}
	there, err := s.Thumbnails.IsAccessible(ctx)
	return there && err == nil
}

// showThumbnail serves GET /thumbnails/{key}, also in ranges and only if it
// has changed. A key contains the digest of its content, which therefore never
// changes.
func (s *Server) showThumbnail(w http.ResponseWriter, r *http.Request) {
	key := mux.Vars(r)["key"]
	parts := thumbnailKey.FindStringSubmatch(key)
	if parts == nil {
		writeError(w, http.StatusNotFound, "There is no such thumbnail")
		return
	}
	if id, err := uuid.Parse(key[:strings.IndexByte(key, '/')]); err == nil {
		*subject(r) = telemetry.About(id, "") // which run made it is not known here
	}
	mediaType := ""
	for _, format := range photo.Formats {
		if format.Extension() == parts[2] {
			mediaType = format.MediaType()
		}
	}
	reader, err := s.Thumbnails.NewReader(r.Context(), key, nil)
	if mediaType == "" || s.lacksThumbnail(r.Context(), err) {
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
		caches = "private" // a shared cache would ask nobody for a token
	}
	w.Header().Set("Cache-Control", caches+", max-age=31536000, immutable")
	http.ServeContent(w, r, "", reader.ModTime(), reader)
}
