package workflows_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

// TestReplay replays the committed histories with the present workflow code. It
// fails when a decision differs from the history's: such code would break the
// runs that are open during its deployment. See "Change a workflow" in
// CONTRIBUTING.md.
func TestReplay(t *testing.T) {
	for _, file := range histories(t) {
		t.Run(nameOf(file), func(t *testing.T) {
			require.NoError(t, replay(file, workflows.ProcessPhoto, workflows.StartPhotos, workflows.StartSelected, workflows.ReconcilePhotos))
		})
	}
}

// sumsFile has the checksums of the histories of v1.
var sumsFile = filepath.Join(historiesDir, "SHA256SUMS")

// TestCommittedHistoriesStay fails when a history of v1 was changed or removed:
// runs with such a history may be open. Code that cannot replay it needs
// workflow.GetVersion.
func TestCommittedHistoriesStay(t *testing.T) {
	sums := map[string]string{}
	for _, file := range histories(t) {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		sums[filepath.Base(file)] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	content, err := os.ReadFile(sumsFile)
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		require.Equal(t, sum, sums[name], "%s was changed or removed", name)
		delete(sums, name)
	}
	require.Empty(t, sums, "histories without a checksum: add what `sha256sum` prints to %s", sumsFile)
}

// decisions parametrize a copy of the workflows. Each field is a decision that
// an incompatible change might alter.
type decisions struct {
	order          []any // the first three steps
	noLocal        bool  // every step runs as a regular activity
	alwaysLocal    bool  // later workflow tasks run local activities, too
	noRegular      bool  // a failed local activity is not repeated as a regular one
	noFinish       bool  // a failed or canceled photo has no Finish
	finishCanceled bool  // Finish runs in the canceled context
	photosPerPage  int
	selectedPages  int
	cancelPages    bool // a page of a batch is canceled half-way
	noEnd          bool // a batch has no EndBatch
	noNotify       bool // no webhook is posted
	noAttribute    bool // a failed photo has no search attribute
	reconcilePages int
}

// currentDecisions are those of the workflows under test.
func currentDecisions() decisions {
	return decisions{order: []any{activityNames.MarkProcessing, activityNames.FetchSource, activityNames.MakeThumbnails}, photosPerPage: 200, selectedPages: 50, reconcilePages: 20}
}

func (d decisions) step(ctx workflow.Context, activity any) error {
	return d.stepInto(ctx, activity, nil)
}

func (d decisions) stepInto(ctx workflow.Context, activity, out any) error {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: 1, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 1, WaitForCancellation: true})
	if d.isLocal(ctx) {
		err := workflow.ExecuteLocalActivity(ctx, activity, nil).Get(ctx, out)
		if err == nil || d.noRegular || isNonRetryable(err) {
			return err
		}
	}
	err := workflow.ExecuteActivity(ctx, activity, nil).Get(ctx, out)
	if err != nil && !isNonRetryable(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (d decisions) isLocal(ctx workflow.Context) bool {
	return !d.noLocal && (d.alwaysLocal || workflow.GetInfo(ctx).GetCurrentHistoryLength() <= 3)
}

func isNonRetryable(err error) bool {
	var appErr *temporal.ApplicationError
	return errors.As(err, &appErr) && appErr.NonRetryable()
}

func (d decisions) processPhoto(ctx workflow.Context, _ workflows.ProcessPhotoInput) error {
	var err error
	for _, activity := range d.order {
		if err = d.step(ctx, activity); err != nil {
			break
		}
	}
	var appErr *temporal.ApplicationError
	notFound := errors.As(err, &appErr) && appErr.Type() == photo.NotFound.ErrorType()
	if notFound || err != nil && d.noFinish {
		return err
	}
	if !d.finishCanceled {
		ctx, _ = workflow.NewDisconnectedContext(ctx)
	}
	var next *activities.FinishResult
	if err := d.stepInto(ctx, activityNames.Finish, &next); err != nil {
		return err
	}
	if next != nil && next.FailureAttribute && !d.noAttribute {
		code := string(photo.Canceled)
		if appErr != nil {
			code = appErr.Type()
		}
		if err := workflow.UpsertTypedSearchAttributes(ctx, workflows.FailureAttribute.ValueSet(code)); err != nil {
			return err
		}
	}
	if next != nil && next.Notify && !d.noNotify {
		local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: 1, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
		if !d.isLocal(ctx) || workflow.ExecuteLocalActivity(local, activityNames.Notify, nil).Get(ctx, nil) != nil {
			if err := d.child(ctx, "webhook-"+workflow.GetInfo(ctx).WorkflowExecution.RunID, "SendWebhook"); err != nil {
				return err
			}
		}
	}
	return err
}

func (d decisions) child(ctx workflow.Context, id, name string) error {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id})
	return workflow.ExecuteChildWorkflow(ctx, name, nil).GetChildWorkflowExecution().Get(ctx, nil)
}

func (d decisions) startPhotos(ctx workflow.Context, in workflows.StartPhotosInput) error {
	pages := ctx
	if in.Batch != uuid.Nil {
		pages = d.pagesContext(ctx)
		if err := d.regular(pages, activityNames.CreateBatch, nil); err != nil {
			return err
		}
	}
	for range slices.Chunk(in.Photos, d.photosPerPage) {
		if in.Batch != uuid.Nil && ctx.Err() != nil {
			return d.endBatch(ctx, in.Batch)
		}
		if err := d.regular(pages, activityNames.StartPage, nil); err != nil {
			return err
		}
	}
	if in.Batch == uuid.Nil {
		return nil
	}
	return d.endBatch(ctx, in.Batch)
}

func (d decisions) startSelected(ctx workflow.Context, in workflows.StartSelectedInput) error {
	pages := d.pagesContext(ctx)
	for page := 0; ctx.Err() == nil; page++ {
		if page == d.selectedPages {
			return workflow.NewContinueAsNewError(ctx, workflows.StartSelected, in)
		}
		var selected activities.SelectPageResult
		if err := d.regular(pages, activityNames.SelectPage, &selected); err != nil {
			return err
		}
		if len(selected.Photos) > 0 {
			if err := d.regular(pages, activityNames.StartPage, nil); err != nil {
				return err
			}
		}
		if len(selected.Photos) < 200 {
			break
		}
	}
	return d.endBatch(ctx, in.Batch)
}

func (d decisions) pagesContext(ctx workflow.Context) workflow.Context {
	if !d.cancelPages {
		ctx, _ = workflow.NewDisconnectedContext(ctx)
	}
	return ctx
}

func (d decisions) endBatch(ctx workflow.Context, batch uuid.UUID) error {
	if d.noEnd {
		return ctx.Err()
	}
	disconnected, _ := workflow.NewDisconnectedContext(ctx)
	var next *activities.EndBatchResult
	if err := d.regular(disconnected, activityNames.EndBatch, &next); err != nil {
		return err
	}
	if next != nil && next.Notify && !d.noNotify {
		if err := d.child(disconnected, workflows.BatchWebhookID(batch), "NotifyBatch"); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d decisions) regular(ctx workflow.Context, activity, out any) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 1})
	return workflow.ExecuteActivity(ctx, activity, nil).Get(ctx, out)
}

func (d decisions) reconcilePhotos(ctx workflow.Context, in workflows.ReconcilePhotosInput) error {
	for range d.reconcilePages {
		var page activities.ReconcilePageResult
		if err := d.regular(ctx, activityNames.ReconcilePage, &page); err != nil || page.Last {
			return err
		}
	}
	return workflow.NewContinueAsNewError(ctx, workflows.ReconcilePhotos, in)
}

// TestReplayRefusesAChange replays the histories with incompatibly changed
// workflows, and checks which histories detect the change.
func TestReplayRefusesAChange(t *testing.T) {
	local := []string{"completed", "failed_source_forbidden", "failed_corrupt_image", "failed_photo_not_found",
		"completed_slow_source", "failed_source_unavailable", "completed_after_render_crash", "completed_after_heartbeat_timeout",
		"completed_after_outage", "canceled_while_fetching", "canceled_between_attempts", "canceled_while_rendering", "canceled_while_failing"}
	afterFirstTask := []string{"completed_slow_source", "failed_source_unavailable", "completed_after_render_crash",
		"completed_after_heartbeat_timeout", "completed_after_lost_task", "completed_after_outage",
		"canceled_while_fetching", "canceled_between_attempts", "canceled_while_rendering", "canceled_while_failing"}
	for name, c := range map[string]struct {
		change  func(*decisions)
		refused []string
	}{
		"none": {func(*decisions) {}, nil},
		"FetchSource comes first": {func(d *decisions) {
			d.order = []any{activityNames.FetchSource, activityNames.MarkProcessing, activityNames.MakeThumbnails}
		}, []string{"completed", "failed_source_forbidden", "completed_after_lost_task", "completed_slow_source"}},
		"MakeThumbnails is left out": {func(d *decisions) { d.order = d.order[:2] },
			[]string{"completed", "failed_corrupt_image", "completed_slow_source", "completed_after_render_crash", "canceled_while_rendering"}},
		"every step is regular":                 {func(d *decisions) { d.noLocal = true }, local},
		"local also after the first task":       {func(d *decisions) { d.alwaysLocal = true }, afterFirstTask},
		"no regular activity after a local one": {func(d *decisions) { d.noRegular = true }, slices.DeleteFunc(slices.Clone(afterFirstTask), func(name string) bool { return name == "completed_after_lost_task" })},
		"a failed photo has no Finish":          {func(d *decisions) { d.noFinish = true }, []string{"failed_source_forbidden", "failed_source_unavailable", "failed_corrupt_image", "canceled_while_fetching"}},
		"a cancelled photo has no status":       {func(d *decisions) { d.finishCanceled = true }, []string{"canceled_before", "canceled_while_fetching", "canceled_between_attempts", "canceled_while_rendering"}},
		"300 photos to a page":                  {func(d *decisions) { d.photosPerPage = 300 }, []string{"started_many", "started_batch"}},
		"51 pages to a run of StartSelected":    {func(d *decisions) { d.selectedPages = 51 }, []string{"started_selected_as_new_run"}},
		"a page is canceled half-way":           {func(d *decisions) { d.cancelPages = true }, []string{"canceled_batch", "canceled_selected"}},
		"no webhook":                            {func(d *decisions) { d.noNotify = true }, []string{"failed_notified", "completed_receiver_away", "started_selected_notified"}},
		"no search attribute":                   {func(d *decisions) { d.noAttribute = true }, []string{"failed_notified"}},
		"a batch has no end":                    {func(d *decisions) { d.noEnd = true }, []string{"started_batch", "started_selected", "canceled_batch", "canceled_selected"}},
		"21 pages to a run of the reconciler":   {func(d *decisions) { d.reconcilePages = 21 }, []string{"reconciled_as_new_run"}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := currentDecisions()
			c.change(&changed)
			refused := map[string]error{}
			for _, file := range histories(t) {
				if err := replay(file, changed.processPhoto, changed.startPhotos, changed.startSelected, changed.reconcilePhotos); err != nil {
					refused[nameOf(file)] = err
				}
			}
			if c.refused == nil {
				require.Empty(t, refused, "these decisions are those of the workflows")
			}
			require.Subset(t, slices.Collect(maps.Keys(refused)), c.refused)
		})
	}
}

func histories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/histories/*/*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 31, "committed histories")
	return files
}

func nameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".json") }

// replay replays the history in the file with the given workflows.
func replay(file string, processPhoto, startPhotos, startSelected, reconcilePhotos any) error {
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflow(workflows.DeletePhoto)
	replayer.RegisterWorkflow(workflows.SendWebhook)
	replayer.RegisterWorkflow(workflows.NotifyBatch)
	for name, w := range map[string]any{"ProcessPhoto": processPhoto, "StartPhotos": startPhotos, "StartSelected": startSelected, "ReconcilePhotos": reconcilePhotos} {
		replayer.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
	return replayer.ReplayWorkflowHistoryFromJSONFile(quiet{}, file)
}

// quiet is an SDK logger that discards all lines: the tests provoke many
// warnings.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
