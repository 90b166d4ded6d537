package worker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestPhotosMoveOnToTheNextVersion(t *testing.T) {
	b := setup(t)
	b.cfg.WorkerDeployment, b.cfg.WorkerBuildID = t.Name(), "v1"
	deployment := b.temporal.WorkerDeploymentClient().GetHandle(t.Name())
	makeCurrent := func(buildID string) {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			_, err := deployment.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: buildID})
			require.NoError(c, err) // the version exists after its worker has polled
		}, time.Minute, 50*time.Millisecond)
	}
	stop := b.work(t)
	makeCurrent("v1")
	b.pendingActivity(t, func(*workflowpb.PendingActivityInfo) bool { return true }) // v1 started the photo
	b.cfg.WorkerBuildID = "v2"
	b.work(t)
	makeCurrent("v2")
	close(b.release)
	stop() // the last worker of v1
	b.requireCompleted(t)
	described, err := b.temporal.DescribeWorkflowExecution(t.Context(), photo.WorkflowID(b.photo), "")
	require.NoError(t, err)
	version := described.GetWorkflowExecutionInfo().GetVersioningInfo()
	require.Equal(t, "v2", version.GetDeploymentVersion().GetBuildId())
	require.Equal(t, enumspb.VERSIONING_BEHAVIOR_AUTO_UPGRADE, version.GetBehavior())
}
