package workflows_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/workflows"
)

// TestReplay runs today's workflow code against the histories of real runs. It
// fails when the code decides otherwise than it did then, which would break
// the runs that are open while it is deployed. What to do about it is in the
// README, under "Changing a workflow".
func TestReplay(t *testing.T) {
	for _, file := range histories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			require.NoError(t, replay(file, workflows.ProcessPhoto))
		})
	}
}

// TestReplayNoticesAnIncompatibleChange replays the histories with workflows
// that were changed as a hasty developer might.
func TestReplayNoticesAnIncompatibleChange(t *testing.T) {
	for name, changed := range map[string]any{
		"a step is left out": func(ctx workflow.Context, in workflows.ProcessPhotoInput) (*activities.MakeThumbnailsResult, error) {
			return nil, nil
		},
		"a timer comes first": func(ctx workflow.Context, in workflows.ProcessPhotoInput) (*activities.MakeThumbnailsResult, error) {
			if err := workflow.Sleep(ctx, time.Second); err != nil {
				return nil, err
			}
			return workflows.ProcessPhoto(ctx, in)
		},
		"an activity comes first": func(ctx workflow.Context, in workflows.ProcessPhotoInput) (*activities.MakeThumbnailsResult, error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			if err := workflow.ExecuteActivity(ctx, act.MakeThumbnails, activities.MakeThumbnailsInput{}).Get(ctx, nil); err != nil {
				return nil, err
			}
			return workflows.ProcessPhoto(ctx, in)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range histories(t) {
				if name := filepath.Base(file); name == "reconciled.json" || name == "started_many.json" {
					continue // of other workflows
				}
				require.Error(t, replay(file, changed), file)
			}
		})
	}
}

func histories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/histories/*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 6, "committed histories")
	return files
}

// replay replays one history as if processPhoto were ProcessPhoto.
func replay(file string, processPhoto any) error {
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflowWithOptions(processPhoto, workflow.RegisterOptions{Name: "ProcessPhoto"})
	replayer.RegisterWorkflow(workflows.ReconcilePhotos)
	replayer.RegisterWorkflow(workflows.StartPhotos)
	return replayer.ReplayWorkflowHistoryFromJSONFile(quiet{}, file)
}

// quiet keeps the SDK from logging what the tests expect.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
