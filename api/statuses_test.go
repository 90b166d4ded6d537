package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestReadStatuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	added, err := b.api.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg", "https://photos.example/2.jpg"})
	require.NoError(t, err)
	run := photo.Run{Photo: added[1].UUID, ID: "run", StartedAt: added[1].CreatedAt}
	_, _, err = b.api.DB.Finish(t.Context(), run, photo.Fail(photo.Canceled, "processing was canceled"))
	require.NoError(t, err)

	got := b.post(t, "/photos/status", fmt.Sprintf(`[%q, %q, %q, %q]`, added[0].UUID, uuid.New(), added[1].UUID, added[1].UUID))
	require.Equal(t, http.StatusOK, got.status, got.body)
	var statuses []struct {
		UUID    uuid.UUID
		Status  photo.Status
		Failure *photo.Failure
	}
	require.NoError(t, json.Unmarshal([]byte(got.body), &statuses))
	require.Len(t, statuses, 2)
	for _, s := range statuses {
		if s.UUID == added[0].UUID {
			require.Equal(t, photo.Pending, s.Status)
			require.Nil(t, s.Failure)
		} else {
			require.Equal(t, photo.Failed, s.Status)
			require.Equal(t, photo.Canceled, s.Failure.Code)
		}
	}
	requireJSON(t, b.post(t, "/photos/status", "[]"), http.StatusOK, "[]\n")
	requireError(t, b.post(t, "/photos/status", `["x"]`), http.StatusBadRequest, "Elements that are not UUIDs: 1")
	requireError(t, b.post(t, "/photos/status", "{}"), http.StatusBadRequest, "array")
	many := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%q,", added[0].UUID), 1001), ",")
	requireError(t, b.post(t, "/photos/status", "["+many+"]"), http.StatusRequestEntityTooLarge, "1000")
}
