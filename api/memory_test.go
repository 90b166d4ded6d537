package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

// longURL has 8000 bytes, each of which takes three in a response.
var longURL = "https://photos.example/" + strings.Repeat(`"`, 7977)

// TestAPageEndsAtAMebibyte lists photos whose URLs are as long as possible.
func TestAPageEndsAtAMebibyte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const photos = 150
	_, err := b.api.DB.AddPhotos(t.Context(), slices.Repeat([]string{longURL}, photos))
	require.NoError(t, err)
	seen, pages := map[string]bool{}, 0
	for path := "/photos/pending?limit=1000"; path != ""; pages++ {
		got := b.get(t, path)
		require.Equal(t, http.StatusOK, got.status)
		require.Less(t, len(got.body), 1<<20+len(longURL)*3+1000)
		var page []struct{ UUID string }
		require.NoError(t, json.Unmarshal([]byte(got.body), &page))
		for _, p := range page {
			require.False(t, seen[p.UUID], "it is on one page only")
			seen[p.UUID] = true
		}
		path = strings.TrimSuffix(strings.TrimPrefix(got.header.Get("Link"), "<"), `>; rel="next"`)
	}
	require.Len(t, seen, photos)
	require.Greater(t, pages, 1)
}

// TestMemoryIsBounded lets requests hold all of HTTP_MAX_MEMORY.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	databaseURL := postgrestest.URL(t)
	address, stop, ended := serve(t, databaseURL, "HTTP_MAX_MEMORY=6291456", "HTTP_TIMEOUT=30s") // for two pages
	observer, locked := connect(t, databaseURL), connect(t, databaseURL)
	_, err := locked.Exec(t.Context(), `BEGIN; LOCK TABLE photos`)
	require.NoError(t, err)

	listed := make(chan int, 5)
	for range cap(listed) {
		go func() {
			resp, err := devstacktest.HTTPClient.Get("http://" + address + "/photos/pending")
			if err != nil {
				listed <- 0
				return
			}
			_ = resp.Body.Close()
			listed <- resp.StatusCode
		}()
	}
	awaitBlocked(t, observer, 2)
	large := fmt.Sprintf(`[{"url":%q}]`, "https://photos.example/"+strings.Repeat("x", 200_000))
	resp, err := devstacktest.HTTPClient.Post("http://"+address+"/photos", "", strings.NewReader(large))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, string(body), "6291456")
	requireDocumented(t, resp, body)
	small, err := devstacktest.HTTPClient.Post("http://"+address+"/photos/process", "", strings.NewReader(`["nonsense"]`))
	require.NoError(t, err)
	defer small.Body.Close()
	require.Equal(t, http.StatusBadRequest, small.StatusCode, "a small body needs no memory of these")
	awaitBlocked(t, observer, 2)

	_, err = locked.Exec(t.Context(), `ROLLBACK`)
	require.NoError(t, err)
	for range cap(listed) {
		select {
		case status := <-listed:
			require.Equal(t, http.StatusOK, status, "the others waited")
		case <-time.After(time.Minute):
			t.Fatal("a list is not answered")
		}
	}
	stop()
	await(t, ended)
}
