package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// addProcessed adds seven photos, in this order: pending, processing, completed
// with three thumbnails, three that have failed with source_timeout, and one
// that has failed with source_forbidden.
func (b *testBundle) addProcessed(t *testing.T) []photo.Photo {
	t.Helper()
	var photos []photo.Photo
	for i := range 7 {
		photos = append(photos, b.add(t, fmt.Sprintf("https://photos.example/%d.jpg?a=1", i))...)
	}
	run := func(i int) photo.Run {
		return photo.Run{Photo: photos[i].UUID, ID: uuid.NewString(), StartedAt: time.Now()}
	}
	b.mark(t, run(1))
	completed := run(2)
	b.mark(t, completed)
	var thumbnails []photo.Thumbnail
	for _, size := range []photo.Size{{Width: 160, Height: 107}, {Width: 213, Height: 320}, {Width: 1280, Height: 853}} {
		thumbnails = append(thumbnails, photo.Thumbnail{Size: size, Key: fmt.Sprintf("%dx%d.jpg", size.Width, size.Height)})
	}
	source := photo.SourceInfo{Bytes: 1, SHA256: strings.Repeat("0", 64), MediaType: "image/jpeg"}
	require.NoError(t, b.api.DB.PublishThumbnails(t.Context(), completed, source, thumbnails, nil))
	b.finish(t, completed, nil)
	for i := 3; i < 6; i++ {
		b.finish(t, run(i), photo.Fail(photo.SourceTimeout, "too slow"))
	}
	b.finish(t, run(6), photo.Fail(photo.SourceForbidden, "403"))
	return photos
}

func TestListPreviews(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireJSON(t, b.get(t, "/photos"), http.StatusOK, "[]\n")
	photos := b.addProcessed(t)
	for query, want := range map[string][]int{
		"":                                  {6, 5, 4, 3, 2, 1, 0},
		"status=pending":                    {0},
		"status=processing":                 {1},
		"status=completed":                  {2},
		"status=failed":                     {6, 5, 4, 3},
		"code=source_timeout":               {5, 4, 3},
		"status=failed&code=source_timeout": {5, 4, 3},
		"status=failed&code=source_blocked": nil,
		"status=&code=source_forbidden":     {6},
	} {
		for _, limit := range []int{1, 2, 3, 100} {
			var seen []uuid.UUID
			pages := 0
			for path := fmt.Sprintf("/photos?%s&limit=%d", query, limit); path != ""; pages++ {
				got := b.get(t, path)
				require.Equal(t, http.StatusOK, got.status, got.body)
				var page []struct{ UUID uuid.UUID }
				require.NoError(t, json.Unmarshal([]byte(got.body), &page))
				require.LessOrEqual(t, len(page), limit)
				for _, p := range page {
					seen = append(seen, p.UUID)
				}
				path = nextPage(t, got)
			}
			var ids []uuid.UUID
			for _, i := range want {
				ids = append(ids, photos[i].UUID)
			}
			require.Equal(t, ids, seen, "%s limit=%d", query, limit)
			require.Equal(t, max(1, (len(want)+limit-1)/limit), pages, "%s limit=%d", query, limit)
		}
	}
	for query, words := range map[string]string{
		"status=x":                           "status must be",
		"status=Failed":                      "status must be",
		"code=x":                             "code must be",
		"code=photo_not_found":               "code must be",
		"status=pending&code=source_timeout": "code needs status=failed",
		"limit=0":                            "limit must be",
		"limit=1001":                         "limit must be",
		"after=x":                            "after must be",
	} {
		requireError(t, b.get(t, "/photos?"+query), http.StatusBadRequest, words)
	}
}

func TestPreviewsShowAThumbnail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	photos := b.addProcessed(t)
	preview := func(i int, status, more string) string {
		shown, err := b.api.DB.Photo(t.Context(), photos[i].UUID)
		require.NoError(t, err)
		at := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
		failure, thumbnail := more, ""
		if strings.HasPrefix(more, `,"thumbnail"`) {
			failure, thumbnail = "", more
		}
		return fmt.Sprintf(`[{"uuid":"%s","url":"https://photos.example/%d.jpg?a=xxxxx","status":"%s","created_at":"%s"%s,"updated_at":"%s"%s}]`+"\n",
			shown.UUID, i, status, at(shown.CreatedAt), failure, at(shown.UpdatedAt), thumbnail)
	}
	requireJSON(t, b.get(t, "/photos?status=pending"), http.StatusOK, preview(0, "pending", ""))
	requireJSON(t, b.get(t, "/photos?status=completed"), http.StatusOK,
		preview(2, "completed", `,"thumbnail":{"url":"213x320.jpg","width":213,"height":320}`))
	requireJSON(t, b.get(t, "/photos?code=source_forbidden"), http.StatusOK, preview(6, "failed", `,"failure":{"code":"source_forbidden"}`))
}

func TestCountPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireJSON(t, b.get(t, "/photos/counts"), http.StatusOK, `{"pending":0,"processing":0,"completed":0,"failed":0,"failures":{}}`+"\n")
	b.addProcessed(t)
	requireJSON(t, b.get(t, "/photos/counts"), http.StatusOK,
		`{"pending":1,"processing":1,"completed":1,"failed":4,"failures":{"source_forbidden":1,"source_timeout":3}}`+"\n")
}

func TestPreviewsWithoutPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutPostgres(t))
	for _, path := range []string{"/photos", "/photos/counts"} {
		requireError(t, b.get(t, path), http.StatusServiceUnavailable, "database cannot be reached")
	}
}
