package photo

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// Run is one run of a photo's workflow, and the fencing token of its writes:
// the newest run that has written the photo's status owns it, and a write of an
// older run changes nothing.
type Run struct {
	Photo     uuid.UUID `json:"photo"`
	ID        string    `json:"id"`         // Temporal's run ID
	StartedAt time.Time `json:"started_at"` // workflow time of the first task; orders the runs of one photo
}

// WorkflowID returns the ID of the workflow that processes the photo. Temporal
// allows one open workflow with an ID, and so one for each photo.
func WorkflowID(id uuid.UUID) string { return workflowPrefix + id.String() }

// DeleteWorkflowID returns the ID of the workflow that deletes the photo.
func DeleteWorkflowID(id uuid.UUID) string { return "delete-photo-" + id.String() }

// BatchWorkflowID returns the ID of the workflow that starts the photos of the
// batch.
func BatchWorkflowID(batch uuid.UUID) string { return "start-photos-" + batch.String() }

const workflowPrefix = "process-photo-"

// ParseWorkflowID returns the photo that the workflow with this ID processes;
// ok is false for an ID that WorkflowID does not return.
func ParseWorkflowID(workflowID string) (id uuid.UUID, ok bool) {
	text, ok := strings.CutPrefix(workflowID, workflowPrefix)
	if !ok {
		return uuid.UUID{}, false
	}
	id, err := ParseUUID(text)
	return id, err == nil && id.String() == text
}
