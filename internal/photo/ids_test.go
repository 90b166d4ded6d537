package photo_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

const canonical = "efca73b0-0697-4325-af90-d272f01b1ae5"

func TestParseUUID(t *testing.T) {
	t.Parallel()
	want := uuid.MustParse(canonical)
	bare := strings.ReplaceAll(canonical, "-", "")
	for _, text := range []string{
		canonical, strings.ToUpper(canonical), bare, strings.ToUpper(bare),
		"{" + canonical + "}", "urn:uuid:" + canonical, "URN:UUID:" + canonical,
	} {
		id, err := photo.ParseUUID(text)
		require.NoError(t, err, text)
		require.Equal(t, want, id, text)
	}
	for _, text := range []string{
		"", "!" + canonical + "!", "{" + canonical + "!", "!" + canonical + "}", "}" + canonical + "{", " " + canonical + " ", "\"" + canonical + "\"",
		canonical + " ", "{" + bare + "}", "url:uuid:" + canonical, strings.Replace(canonical, "-", "_", 1), strings.Replace(canonical, "e", "g", 1),
	} {
		_, err := photo.ParseUUID(text)
		require.Error(t, err, text)
	}
}

func TestParseWorkflowID(t *testing.T) {
	t.Parallel()
	want := uuid.MustParse(canonical)
	id, ok := photo.ParseWorkflowID(photo.WorkflowID(want))
	require.True(t, ok)
	require.Equal(t, want, id)
	for _, workflowID := range []string{
		"", canonical, "process-photo-", "process-photo-x", "start-photos-" + canonical,
		"process-photo-!" + canonical + "!", "process-photo-{" + canonical + "}", "process-photo-urn:uuid:" + canonical,
		"process-photo-" + strings.ToUpper(canonical), "process-photo-" + strings.ReplaceAll(canonical, "-", ""),
	} {
		_, ok := photo.ParseWorkflowID(workflowID)
		require.False(t, ok, workflowID)
	}
}
