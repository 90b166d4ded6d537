package api_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestDeletePhoto(t *testing.T) {
	t.Parallel()
	b := setup(t)
	photos, err := b.api.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	id := photos[0].UUID
	got := b.do(t, http.MethodDelete, "/photos/"+id.String(), "")
	require.Equal(t, http.StatusNoContent, got.status)
	require.Empty(t, got.body)
	requireError(t, b.get(t, "/photos/"+id.String()), http.StatusNotFound, "no photo")
	requireError(t, b.do(t, http.MethodDelete, "/photos/"+id.String(), ""), http.StatusNotFound, "no photo")
	workflow, err := b.api.Temporal.DescribeWorkflowExecution(t.Context(), photo.DeleteWorkflowID(id), "")
	require.NoError(t, err)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, workflow.GetWorkflowExecutionInfo().GetStatus(), "it removes the files")
}

func TestDeletePhotoWithoutAServer(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutTemporal(t))
	photos, err := b.api.DB.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	path := "/photos/" + photos[0].UUID.String()
	requireError(t, b.do(t, http.MethodDelete, path, ""), http.StatusServiceUnavailable, "Temporal cannot be reached")
	require.Equal(t, http.StatusOK, b.get(t, path).status, "nothing has changed")

	b = setup(t, withoutPostgres(t))
	requireError(t, b.do(t, http.MethodDelete, "/photos/"+uuid.NewString(), ""), http.StatusServiceUnavailable, "The database cannot be reached")
}
