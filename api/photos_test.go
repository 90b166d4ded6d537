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

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/photo"
)

func (b *testBundle) add(t *testing.T, urls ...string) []photo.Photo {
	t.Helper()
	photos, err := b.api.DB.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	return photos
}

// nextPage returns the path of the next page of a list, or "".
func nextPage(t *testing.T, got response) string {
	t.Helper()
	link := got.header.Get("Link")
	if link == "" {
		return ""
	}
	require.True(t, strings.HasSuffix(link, `>; rel="next"`), link)
	return strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
}

func TestListPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireJSON(t, b.get(t, "/photos/pending"), http.StatusOK, "[]\n")

	for i := range 7 {
		b.add(t, fmt.Sprintf("https://photos.example/%d.jpg?a=1&b=2", i))
	}
	var seen []string
	for path := "/photos/pending?limit=3"; path != ""; {
		got := b.get(t, path)
		require.Equal(t, http.StatusOK, got.status, got.body)
		var photos []map[string]string
		require.NoError(t, json.Unmarshal([]byte(got.body), &photos))
		require.LessOrEqual(t, len(photos), 3)
		for _, p := range photos {
			require.Len(t, p, 4)
			require.Equal(t, "pending", p["status"])
			require.NotEmpty(t, p["uuid"])
			created, err := time.Parse(time.RFC3339, p["created_at"])
			require.NoError(t, err)
			require.Equal(t, time.UTC, created.Location())
			seen = append(seen, p["url"])
		}
		path = nextPage(t, got)
	}
	require.Len(t, seen, 7)
	require.True(t, strings.HasPrefix(seen[0], "https://photos.example/0.jpg"), "oldest first")

	for _, status := range []string{"processing", "completed", "failed"} {
		requireJSON(t, b.get(t, "/photos/"+status), http.StatusOK, "[]\n")
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "after=x", "after=2020-01-01T00:00:00Z_x"} {
		requireError(t, b.get(t, "/photos/pending?"+query), http.StatusBadRequest, query[:5])
	}
}

func TestShowPhoto(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.add(t, "https://user:hunter2@photos.example/1.jpg")[0]
	run := photo.Run{Photo: p.UUID, ID: "run", StartedAt: time.Now()}
	path := "/photos/" + p.UUID.String()

	_, err := b.api.DB.MarkProcessing(t.Context(), run)
	require.NoError(t, err)
	source := photo.SourceInfo{Bytes: 1, SHA256: strings.Repeat("0", 64), MediaType: "image/jpeg"}
	require.NoError(t, b.api.DB.PublishThumbnails(t.Context(), run, source,
		[]photo.Thumbnail{{Size: photo.Size{Width: 320, Height: 213}, Key: "k.jpg"}}, []byte("\x21\x08\x42\x07\x00placeholder")))
	_, _, err = b.api.DB.Finish(t.Context(), run, photo.Fail(photo.SourceForbidden, "the source answered 403 Forbidden"))
	require.NoError(t, err)

	shown, err := b.api.DB.Photo(t.Context(), p.UUID)
	require.NoError(t, err)
	at := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
	requireJSON(t, b.get(t, path), http.StatusOK, fmt.Sprintf(`{"uuid":"%s","url":"https://user:xxxxx@photos.example/1.jpg","status":"failed",`+
		`"created_at":"%s","placeholder":"IQhCBwBwbGFjZWhvbGRlcg==","updated_at":"%s","thumbnails":[{"uuid":"%s","width":320,"height":213,"url":"k.jpg","created_at":"%s"}],`+
		`"failure":{"code":"source_forbidden","message":"the source answered 403 Forbidden"},"workflow_id":"process-photo-%s"}`+"\n",
		p.UUID, at(shown.CreatedAt), at(shown.UpdatedAt), shown.Thumbnails[0].UUID, at(shown.Thumbnails[0].CreatedAt), p.UUID))
	requireJSON(t, b.get(t, "/photos/failed"), http.StatusOK, fmt.Sprintf(`[{"uuid":"%s","url":"https://user:xxxxx@photos.example/1.jpg",`+
		`"status":"failed","created_at":"%s","placeholder":"IQhCBwBwbGFjZWhvbGRlcg==","failure":{"code":"source_forbidden"}}]`+"\n", p.UUID, at(shown.CreatedAt)))

	requireError(t, b.get(t, "/photos/"+uuid.NewString()), http.StatusNotFound)
	requireError(t, b.get(t, "/photos/nonsense"), http.StatusNotFound)
}

func TestWorkflowURL(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.api.Config.TemporalUIURL = "https://temporal.example/ui"
	b.api.Namespace = "photos/1"
	p := b.add(t, "https://photos.example/1.jpg")[0]
	path := "/photos/" + p.UUID.String()
	require.NotContains(t, b.get(t, path).body, "workflow_url", "it has no run")
	_, err := b.api.DB.MarkProcessing(t.Context(), photo.Run{Photo: p.UUID, ID: "0195-run", StartedAt: time.Now()})
	require.NoError(t, err)
	require.Contains(t, b.get(t, path).body,
		`"workflow_url":"https://temporal.example/ui/namespaces/photos%2F1/workflows/process-photo-`+p.UUID.String()+`/0195-run/history"`)
}

func TestAddPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	decode := func(got response) (photos []struct {
		UUID        uuid.UUID
		URL, Status string
	}) {
		require.Equal(t, http.StatusCreated, got.status, got.body)
		require.NoError(t, json.Unmarshal([]byte(got.body), &photos))
		return photos
	}
	one := decode(b.post(t, "/photos", `{"url":"https://photos.example/1.jpg"}`))
	require.Len(t, one, 1)
	require.Equal(t, "pending", one[0].Status)
	require.Empty(t, b.running(t, one[0].UUID))

	two := decode(b.post(t, "/photos?process=true", `[{"url":"https://photos.example/3.jpg"},{"url":"http://photos.example/2.jpg"}]`))
	require.Len(t, two, 2)
	require.Equal(t, "https://photos.example/3.jpg", two[0].URL, "in the order of the request")
	for _, p := range two {
		require.NotEmpty(t, b.running(t, p.UUID))
	}
	require.Empty(t, decode(b.post(t, "/photos", `[]`)))

	for body, word := range map[string]string{
		`{"url":"ftp://photos.example/1.jpg"}`: "not http or https",
		`{"url":"https://"}`:                   "host",
		`{"url":""}`:                           "Photo 1",
		`{"url":7}`:                            `string "url"`,
		`{}`:                                   `string "url"`,
		`["https://photos.example/1.jpg"]`:     "Photo 1",
		`[{"url":"https://photos.example/1.jpg"},{"url":"nonsense"}]`: "Photo 2",
		`7`: "must be a JSON array",
		`{"url":"https://photos.example/` + strings.Repeat("a", 8000) + `"}`: "the limit is 8000",
		`{"url":"https://photos.example/\u0000"}`:                            "Photo 1",
	} {
		requireError(t, b.post(t, "/photos", body), http.StatusBadRequest, word)
	}
	requireError(t, b.post(t, "/photos?process=maybe", `[]`), http.StatusBadRequest, "process must be true or false")
	require.Equal(t, 3, strings.Count(b.get(t, "/photos/pending").body, `"uuid"`), "of a bad request nothing is added")
}

// Every answer with a photo redacts its URL: every holder of a token sees it.
func TestSourceURLsAreRedacted(t *testing.T) {
	t.Parallel()
	const plain, signed = "https://photos.example/a b/1.jpg#x", "https://user:hunter2@photos.example/1.jpg?X-Sig=s1gned&w=1"
	for shown, want := range map[string]string{
		config.SourceURLsRedacted: "https://user:xxxxx@photos.example/1.jpg?X-Sig=xxxxx&w=xxxxx",
		config.SourceURLsFull:     "https://user:xxxxx@photos.example/1.jpg?X-Sig=s1gned&w=1",
	} {
		t.Run(shown, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(s *api.Server) { s.Config.SourceURLsShown = shown })
			p := b.add(t, plain, signed)[1]
			var posted []map[string]string
			answer := b.post(t, "/photos", fmt.Sprintf(`[{"url":%q},{"url":%q}]`, plain, signed))
			require.NoError(t, json.Unmarshal([]byte(answer.body), &posted))
			require.Equal(t, []string{plain, want}, []string{posted[0]["url"], posted[1]["url"]})
			encoded, err := json.Marshal(want) // as the API escapes it
			require.NoError(t, err)
			for _, path := range []string{"/photos", "/photos/pending", "/photos/" + p.UUID.String()} {
				body := strings.ReplaceAll(b.get(t, path).body, `\u0026`, "&")
				require.Contains(t, body, strings.ReplaceAll(string(encoded), `\u0026`, "&"))
				require.NotContains(t, body, "hunter2")
			}
		})
	}
	t.Run("a row that cannot be parsed", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		p := b.add(t, "http://user:hunter2@host:port/")[0]
		require.Contains(t, b.get(t, "/photos/"+p.UUID.String()).body, `"url":"xxxxx"`)
	})
}
