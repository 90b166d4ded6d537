package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

var (
	activityNames *activities.Activities
	thePhoto      = uuid.MustParse("0b5a1f7e-58c5-4b3c-9a53-0e1f6d2a7c11")
	fetched       = &activities.FetchSourceResult{SourceInfo: photo.SourceInfo{MediaType: "image/jpeg", Bytes: 1234567}}
	made          = &activities.MakeThumbnailsResult{Source: fetched.SourceInfo, Thumbnails: []string{"320x213"}}
)

// testBundle is a workflow environment with mocked activities. Its clock skips
// timers, so that retries take no real time.
type testBundle struct {
	*testsuite.TestWorkflowEnvironment
	finished []activities.FinishInput // in the order of the calls
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetDisableRegistrationAliasing(true)
	b := &testBundle{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment()}
	b.SetWorkerOptions(worker.Options{})
	b.RegisterWorkflow(workflows.ProcessPhoto)
	b.RegisterActivity(&activities.Activities{})
	b.SetTestTimeout(30 * time.Second)
	t.Cleanup(func() { b.AssertExpectations(t) })
	return b
}

// marks lets MarkProcessing succeed once.
func (b *testBundle) marks() { b.onMark().Return(nil).Once() }

// fetches lets FetchSource succeed once.
func (b *testBundle) fetches() { b.onFetch().Return(fetched, nil).Once() }

// finishes lets Finish succeed once, and records its input.
func (b *testBundle) finishes() {
	b.OnActivity(activityNames.Finish, mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		b.finished = append(b.finished, args.Get(1).(activities.FinishInput))
	}).Return(nil, nil).Once()
}

func (b *testBundle) onMark() *testsuite.MockCallWrapper {
	return b.OnActivity(activityNames.MarkProcessing, mock.Anything, mock.Anything)
}

func (b *testBundle) onFetch() *testsuite.MockCallWrapper {
	return b.OnActivity(activityNames.FetchSource, mock.Anything, mock.Anything)
}

func (b *testBundle) onMake() *testsuite.MockCallWrapper {
	return b.OnActivity(activityNames.MakeThumbnails, mock.Anything, mock.Anything)
}

func (b *testBundle) onFinish() *testsuite.MockCallWrapper {
	return b.OnActivity(activityNames.Finish, mock.Anything, mock.Anything)
}

// run executes the workflow until it closes, and returns its error.
func (b *testBundle) run(t *testing.T) error {
	t.Helper()
	b.ExecuteWorkflow(workflows.ProcessPhoto, workflows.ProcessPhotoInput{Photo: thePhoto})
	require.True(t, b.IsWorkflowCompleted())
	return b.GetWorkflowError()
}

// requireFailed checks that the photo and the workflow failed with the code.
func (b *testBundle) requireFailed(t *testing.T, err error, code photo.Code) {
	t.Helper()
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, string(code), appErr.Type())
	require.True(t, appErr.NonRetryable())
	require.Len(t, b.finished, 1)
	require.Equal(t, code, b.finished[0].Failure.Code)
	require.Equal(t, appErr.Message(), b.finished[0].Failure.Message)
	require.Equal(t, thePhoto, b.finished[0].Run.Photo)
}

// permanent is the error of an activity that fails the photo.
func permanent(code photo.Code) error {
	return temporal.NewNonRetryableApplicationError("message of "+string(code), code.ErrorType(), nil)
}

var (
	databaseAway = temporal.NewApplicationError("PostgreSQL cannot be reached", activities.DatabaseUnavailable)
	bucketAway   = temporal.NewApplicationError("the bucket cannot be used", activities.StorageUnavailable)
)

func TestCompletes(t *testing.T) {
	b := setup(t)
	var run photo.Run
	b.onMark().Return(func(_ context.Context, in activities.MarkProcessingInput) error {
		run = in.Run
		return nil
	}).Once()
	want := activities.StepInput{}
	b.onFetch().Return(func(ctx context.Context, in activities.FetchSourceInput) (*activities.FetchSourceResult, error) {
		want.Run = run
		require.Equal(t, want, in.StepInput)
		require.True(t, activity.GetInfo(ctx).IsLocalActivity)
		return fetched, nil
	}).Once()
	b.onMake().Return(func(ctx context.Context, in activities.MakeThumbnailsInput) (*activities.MakeThumbnailsResult, error) {
		require.Equal(t, want, in.StepInput)
		require.True(t, activity.GetInfo(ctx).IsLocalActivity)
		return made, nil
	}).Once()
	b.finishes()

	require.NoError(t, b.run(t))

	require.Equal(t, thePhoto, run.Photo)
	require.NotEmpty(t, run.ID)
	require.False(t, run.StartedAt.IsZero())
	require.Equal(t, []activities.FinishInput{{StepInput: want, Thumbnails: 1}}, b.finished)
	var result *activities.MakeThumbnailsResult
	require.NoError(t, b.GetWorkflowResult(&result))
	require.Equal(t, made, result)
}

func TestPhotoNotFound(t *testing.T) {
	b := setup(t)
	b.onMark().Return(permanent(photo.NotFound)).Once()
	appErr, ok := errors.AsType[*temporal.ApplicationError](b.run(t))
	require.True(t, ok)
	require.Equal(t, "PhotoNotFound", appErr.Type())
	require.True(t, appErr.NonRetryable())
}

func TestASupersededRunWritesNoStatus(t *testing.T) {
	superseded := temporal.NewNonRetryableApplicationError("superseded", activities.Superseded, nil)
	for step, fails := range map[string]func(b *testBundle){
		"MarkProcessing": func(b *testBundle) { b.onMark().Return(superseded).Once() },
		"FetchSource": func(b *testBundle) {
			b.marks()
			b.onFetch().Return(nil, superseded).Once()
		},
		"MakeThumbnails": func(b *testBundle) {
			b.marks()
			b.fetches()
			b.onMake().Return(nil, superseded).Once()
		},
	} {
		t.Run(step, func(t *testing.T) {
			b := setup(t)
			fails(b)
			appErr, ok := errors.AsType[*temporal.ApplicationError](b.run(t))
			require.True(t, ok)
			require.Equal(t, activities.Superseded, appErr.Type())
			require.Empty(t, b.finished)
		})
	}
}

func TestAPermanentFailureFailsThePhoto(t *testing.T) {
	for step, fails := range map[string]func(b *testBundle){
		"MarkProcessing": func(b *testBundle) { b.onMark().Return(permanent(photo.Internal)).Once() },
		"FetchSource": func(b *testBundle) {
			b.marks()
			b.onFetch().Return(nil, permanent(photo.Internal)).Once()
		},
		"MakeThumbnails": func(b *testBundle) {
			b.marks()
			b.fetches()
			b.onMake().Return(nil, permanent(photo.Internal)).Once()
		},
	} {
		t.Run(step, func(t *testing.T) {
			b := setup(t)
			fails(b)
			b.finishes()
			b.requireFailed(t, b.run(t), photo.Internal)
		})
	}
}

// TestExecuteStep lets FetchSource's local activity end in every way, and
// checks whether a regular activity follows and which failure it receives.
func TestExecuteStep(t *testing.T) {
	type call struct {
		Local   bool
		Failure *photo.Failure
	}
	unavailable := temporal.NewApplicationErrorWithOptions("the source answered 503", string(photo.SourceUnavailable),
		temporal.ApplicationErrorOptions{NextRetryDelay: 5 * time.Minute})
	for name, c := range map[string]struct {
		local error
		want  []call
	}{
		"success":             {nil, []call{{Local: true}}},
		"PostgreSQL away":     {databaseAway, []call{{Local: true}, {}}},
		"disk full":           {bucketAway, []call{{Local: true}, {}}},
		"a worker that stops": {temporal.NewCanceledError(), []call{{Local: true}, {}}},
		"its timeout":         {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, nil), []call{{Local: true}, {}}},
		"a transient failure": {unavailable, []call{{Local: true}, {Failure: &photo.Failure{
			Code: photo.SourceUnavailable, Message: "the source answered 503", RetryAfter: 5 * time.Minute}}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.marks()
			var calls []call
			b.onFetch().Return(func(ctx context.Context, in activities.FetchSourceInput) (*activities.FetchSourceResult, error) {
				calls = append(calls, call{activity.GetInfo(ctx).IsLocalActivity, in.LocalFailure})
				if len(calls) == 1 && c.local != nil {
					return nil, c.local
				}
				return fetched, nil
			})
			b.onMake().Return(made, nil).Once()
			b.finishes()
			require.NoError(t, b.run(t))
			require.Nil(t, b.finished[0].Failure)
			require.Equal(t, c.want, calls)
		})
	}
	t.Run("only in the first workflow task", func(t *testing.T) {
		b := setup(t)
		b.SetCurrentHistoryLength(6) // the first task was lost
		b.SetOnLocalActivityStartedListener(func(info *activity.Info, _ context.Context, _ []any) {
			t.Errorf("%s is a local activity", info.ActivityType.Name)
		})
		b.marks()
		b.fetches()
		b.onMake().Return(made, nil).Once()
		b.finishes()
		require.NoError(t, b.run(t))
	})
}

// TestInfrastructureErrorsAreRetriedWithoutLimit lets each step fail nine
// times, because the test suite gives up after ten attempts.
func TestInfrastructureErrorsAreRetriedWithoutLimit(t *testing.T) {
	const local, regular = 1, 9
	b := setup(t)
	b.onMark().Return(databaseAway).Times(local + regular)
	b.marks()
	b.onFetch().Return(nil, databaseAway).Times(local + regular)
	b.fetches()
	b.onMake().Return(nil, bucketAway).Times(local + regular)
	b.onMake().Return(made, nil).Once()
	b.onFinish().Return(nil, bucketAway).Times(local + regular)
	b.finishes()
	require.NoError(t, b.run(t))
	require.Nil(t, b.finished[0].Failure)
}

func TestCanceled(t *testing.T) {
	waits := temporal.NewApplicationErrorWithOptions("429", string(photo.SourceUnavailable),
		temporal.ApplicationErrorOptions{NextRetryDelay: time.Hour})
	for step, arrange := range map[string]func(b *testBundle){
		"in MarkProcessing": func(b *testBundle) { b.onMark().Return(databaseAway) },
		"between attempts": func(b *testBundle) {
			b.marks()
			b.onFetch().Return(nil, waits)
		},
		"in FetchSource": func(b *testBundle) {
			b.marks()
			b.onFetch().After(time.Hour).Return(nil, temporal.NewCanceledError())
		},
		"in MakeThumbnails": func(b *testBundle) {
			b.marks()
			b.fetches()
			b.onMake().After(time.Hour).Return(nil, temporal.NewCanceledError())
		},
	} {
		t.Run(step, func(t *testing.T) {
			b := setup(t)
			arrange(b)
			b.finishes()
			b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute)
			err := b.run(t)
			require.True(t, temporal.IsCanceledError(err), "%v", err)
			require.Len(t, b.finished, 1)
			require.Equal(t, photo.Canceled, b.finished[0].Failure.Code)
		})
	}
	t.Run("before anything", func(t *testing.T) {
		b := setup(t)
		b.onMark().Return(nil).Maybe()
		b.finishes()
		b.RegisterDelayedCallback(b.CancelWorkflow, 0)
		require.True(t, temporal.IsCanceledError(b.run(t)))
		require.Equal(t, photo.Canceled, b.finished[0].Failure.Code)
	})
	t.Run("in Finish, too late", func(t *testing.T) {
		b := setup(t)
		b.marks()
		b.fetches()
		b.onMake().Return(made, nil)
		b.onFinish().Return(nil, databaseAway).Times(1 + 9)
		b.finishes()
		b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute)
		require.NoError(t, b.run(t), "the thumbnails are there: the photo is completed")
		require.Nil(t, b.finished[0].Failure)
	})
}
