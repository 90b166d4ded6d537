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
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

var (
	act      *activities.Activities
	thePhoto = uuid.MustParse("0b5a1f7e-58c5-4b3c-9a53-0e1f6d2a7c11")
	marked   activities.MarkProcessingResult
	made     = &activities.MakeThumbnailsResult{MediaType: "image/jpeg", Bytes: 1234567, Thumbnails: []string{"320x213"}}
)

// testBundle is a workflow whose activities are played by the test: time is
// skipped, so that retries cost none.
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
func (b *testBundle) marks() {
	b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Return(marked, nil).Once()
}

// marksAgain lets it find that the run has marked the photo before: there is no
// first attempt then.
func (b *testBundle) marksAgain() {
	b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Return(activities.MarkProcessingResult{Again: true}, nil).Once()
}

// finishes lets Finish succeed once, and remembers its input.
func (b *testBundle) finishes() {
	b.OnActivity(act.Finish, mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		b.finished = append(b.finished, args.Get(1).(activities.FinishInput))
	}).Return(nil).Once()
}

func (b *testBundle) onMake() *testsuite.MockCallWrapper {
	return b.OnActivity(act.MakeThumbnails, mock.Anything, mock.Anything)
}

// run executes the workflow to its end and gives its error.
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

func failure(code photo.Code) error {
	return temporal.NewApplicationErrorWithOptions("message of "+string(code), code.ErrorType(),
		temporal.ApplicationErrorOptions{NonRetryable: !code.Retryable()})
}

func TestCompletes(t *testing.T) {
	b := setup(t)
	var run photo.Run
	b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		run = args.Get(1).(activities.MarkProcessingInput).Run
	}).Return(marked, nil).Once()
	b.OnActivity(act.MakeThumbnails, mock.Anything, mock.MatchedBy(func(in activities.MakeThumbnailsInput) bool {
		return in.Run == run
	})).Return(made, nil).Once()
	b.finishes()

	require.NoError(t, b.run(t))

	require.Equal(t, thePhoto, run.Photo)
	require.NotEmpty(t, run.ID)
	require.False(t, run.StartedAt.IsZero())
	require.Equal(t, []activities.FinishInput{{Run: run, Thumbnails: 1}}, b.finished)
	var result *activities.MakeThumbnailsResult
	require.NoError(t, b.GetWorkflowResult(&result))
	require.Equal(t, made, result)
}

func TestPhotoNotFound(t *testing.T) {
	b := setup(t)
	b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Return(marked, failure(photo.NotFound)).Once()
	appErr, ok := errors.AsType[*temporal.ApplicationError](b.run(t))
	require.True(t, ok)
	require.Equal(t, "PhotoNotFound", appErr.Type())
	require.True(t, appErr.NonRetryable())
}

func TestSupersededLeavesThePhotoAlone(t *testing.T) {
	superseded := temporal.NewNonRetryableApplicationError("superseded", activities.Superseded, nil)
	for step, fails := range map[string]func(b *testBundle){
		"MarkProcessing": func(b *testBundle) {
			b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Return(marked, superseded).Once()
		},
		"MakeThumbnails": func(b *testBundle) {
			b.marks()
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

// TestEveryFailure holds each code to the number of attempts it gets.
func TestEveryFailure(t *testing.T) {
	for code, attempts := range map[photo.Code]int{
		photo.InvalidURL: 1, photo.SourceBlocked: 1, photo.SourceNotFound: 1, photo.SourceForbidden: 1,
		photo.SourceTooLarge: 1, photo.SourceUnavailable: 5, photo.SourceTimeout: 5,
		photo.ImageTooLarge: 1, photo.UnsupportedImage: 1, photo.CorruptImage: 1,
		photo.RenderCrashed: 2, photo.RenderTimeout: 2, photo.Internal: 3,
	} {
		t.Run(string(code), func(t *testing.T) {
			b := setup(t)
			b.marks()
			b.onMake().Return(nil, failure(code)).Times(attempts)
			b.finishes()
			b.requireFailed(t, b.run(t), code)
		})
	}
	t.Run("each code has its own", func(t *testing.T) {
		b := setup(t)
		b.marks()
		b.onMake().Return(nil, failure(photo.SourceUnavailable)).Times(4)
		b.onMake().Return(nil, failure(photo.RenderCrashed)).Once()
		b.onMake().Return(made, nil).Once()
		b.finishes()
		require.NoError(t, b.run(t))
	})
}

func TestSourceAppearsOnTheThirdTry(t *testing.T) {
	b := setup(t)
	start := b.Now()
	b.marks()
	b.onMake().Return(nil, failure(photo.SourceUnavailable)).Twice()
	b.onMake().Return(made, nil).Once()
	b.finishes()
	require.NoError(t, b.run(t))
	require.Nil(t, b.finished[0].Failure)
	require.Equal(t, 8*time.Second, b.Now().Sub(start).Round(time.Second), "2 + 6 seconds of workflow time")
}

func TestRetryAfterIsHonoured(t *testing.T) {
	b := setup(t)
	start := b.Now()
	b.marks()
	b.onMake().Return(nil, temporal.NewApplicationErrorWithOptions("the source answered 429", string(photo.SourceUnavailable),
		temporal.ApplicationErrorOptions{NextRetryDelay: 5 * time.Minute})).Once()
	b.onMake().Return(made, nil).Once()
	b.finishes()
	require.NoError(t, b.run(t))
	require.Equal(t, 5*time.Minute, b.Now().Sub(start).Round(time.Second))
}

func TestCurrentDetailsTellTheAttempt(t *testing.T) {
	b := setup(t)
	b.marks()
	b.onMake().Return(nil, failure(photo.SourceUnavailable)).Once()
	b.onMake().After(time.Minute).Return(made, nil).Once()
	b.finishes()
	details := func() string {
		value, err := b.QueryWorkflow("__temporal_workflow_metadata")
		require.NoError(t, err)
		var metadata sdkpb.WorkflowMetadata
		require.NoError(t, value.Get(&metadata))
		return metadata.GetCurrentDetails()
	}
	var waiting, making string
	b.RegisterDelayedCallback(func() { waiting = details() }, time.Second)
	b.RegisterDelayedCallback(func() { making = details() }, 30*time.Second)
	require.NoError(t, b.run(t))
	require.Equal(t, "making thumbnails: waiting 2s after attempt 1: message of source_unavailable", waiting)
	require.Equal(t, "making thumbnails, attempt 2", making)
	require.Equal(t, "completed", details())
}

func TestOutagesAreOutlasted(t *testing.T) {
	// Temporal's policy has no limit, but the test suite gives up after ten
	// attempts; three more are made as a local activity.
	const outage = 9
	away := temporal.NewApplicationError("PostgreSQL cannot be reached", activities.DatabaseUnavailable)
	full := temporal.NewApplicationError("the bucket cannot be used", string(photo.StorageUnavailable))
	t.Run("of PostgreSQL", func(t *testing.T) {
		b := setup(t)
		b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Return(marked, away).Times(3 + outage)
		b.marks()
		b.onMake().Return(nil, away).Times(outage)
		b.onMake().Return(made, nil).Once()
		b.OnActivity(act.Finish, mock.Anything, mock.Anything).Return(away).Times(3 + outage)
		b.finishes()
		require.NoError(t, b.run(t))
		require.Nil(t, b.finished[0].Failure)
	})
	t.Run("of the buckets", func(t *testing.T) {
		b := setup(t)
		b.marks()
		b.onMake().Return(nil, full).Times(outage)
		b.onMake().Return(made, nil).Once()
		b.OnActivity(act.Finish, mock.Anything, mock.Anything).Return(full).Times(3 + outage)
		b.finishes()
		require.NoError(t, b.run(t))
	})
}

// TestTheFirstAttempt is a local activity, which a regular one takes over from
// when it is not about the photo that it failed.
func TestTheFirstAttempt(t *testing.T) {
	type call struct {
		Local   bool
		Attempt int
		Outage  bool
	}
	for name, c := range map[string]struct {
		first error // of the first attempt
		want  []call
	}{
		"succeeds":              {nil, []call{{true, 1, false}}},
		"has a slow source":     {temporal.NewNonRetryableApplicationError("", activities.Slow, nil), []call{{true, 1, false}, {false, 1, false}}},
		"finds PostgreSQL away": {temporal.NewApplicationError("", activities.DatabaseUnavailable), []call{{true, 1, false}, {false, 1, true}}},
		"finds the bucket away": {temporal.NewApplicationError("", string(photo.StorageUnavailable)), []call{{true, 1, false}, {false, 1, true}}},
		"is in a worker's way":  {temporal.NewCanceledError(), []call{{true, 1, false}, {false, 1, false}}},
		"takes ten minutes":     {temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, nil), []call{{true, 1, false}, {false, 1, false}}},
		"finds the source away": {failure(photo.SourceUnavailable), []call{{true, 1, false}, {false, 2, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.marks()
			var calls []call
			b.onMake().Return(func(ctx context.Context, in activities.MakeThumbnailsInput) (*activities.MakeThumbnailsResult, error) {
				calls = append(calls, call{activity.GetInfo(ctx).IsLocalActivity, in.Attempt, in.Outage})
				if len(calls) == 1 && c.first != nil {
					return nil, c.first
				}
				return made, nil
			})
			b.finishes()
			require.NoError(t, b.run(t))
			require.Nil(t, b.finished[0].Failure)
			require.Equal(t, c.want, calls)
		})
	}
	t.Run("is not made where a workflow task was lost", func(t *testing.T) {
		b := setup(t)
		b.marksAgain()
		b.onMake().Return(func(ctx context.Context, _ activities.MakeThumbnailsInput) (*activities.MakeThumbnailsResult, error) {
			require.False(t, activity.GetInfo(ctx).IsLocalActivity)
			return made, nil
		}).Once()
		b.finishes()
		require.NoError(t, b.run(t))
	})
}

func TestLostWorkers(t *testing.T) {
	lost := temporal.NewHeartbeatTimeoutError()
	// Temporal's server returns a time-out to the workflow at once, because the
	// policy names it; the test suite does not know those names, and makes its
	// ten attempts before.
	const perLoss = 10
	t.Run("one is made up for", func(t *testing.T) {
		b := setup(t)
		b.marksAgain()
		b.onMake().Return(nil, lost).Times(perLoss)
		b.onMake().Return(made, nil).Once()
		b.finishes()
		require.NoError(t, b.run(t))
	})
	t.Run("five are the picture's fault", func(t *testing.T) {
		b := setup(t)
		b.marksAgain()
		b.onMake().Return(nil, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)).Times(5 * perLoss)
		b.finishes()
		b.requireFailed(t, b.run(t), photo.RenderCrashed)
	})
}

func TestCanceled(t *testing.T) {
	hour := time.Hour
	for step, waits := range map[string]func(b *testBundle){
		"in MarkProcessing": func(b *testBundle) {
			b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).
				Return(marked, temporal.NewApplicationError("PostgreSQL cannot be reached", activities.DatabaseUnavailable))
		},
		"between attempts": func(b *testBundle) {
			b.marks()
			b.onMake().Return(nil, temporal.NewApplicationErrorWithOptions("429", string(photo.SourceUnavailable),
				temporal.ApplicationErrorOptions{NextRetryDelay: hour}))
		},
		"in MakeThumbnails": func(b *testBundle) {
			b.marks()
			b.onMake().After(hour).Return(nil, temporal.NewCanceledError())
		},
	} {
		t.Run(step, func(t *testing.T) {
			b := setup(t)
			waits(b)
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
		b.OnActivity(act.MarkProcessing, mock.Anything, mock.Anything).Return(marked, nil).Maybe()
		b.finishes()
		b.RegisterDelayedCallback(b.CancelWorkflow, 0)
		require.True(t, temporal.IsCanceledError(b.run(t)))
		require.Equal(t, photo.Canceled, b.finished[0].Failure.Code)
	})
	t.Run("in Finish, too late", func(t *testing.T) {
		b := setup(t)
		b.marks()
		b.onMake().Return(made, nil)
		b.OnActivity(act.Finish, mock.Anything, mock.Anything).
			Return(temporal.NewApplicationError("PostgreSQL cannot be reached", activities.DatabaseUnavailable)).Times(3 + 9)
		b.finishes()
		b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute)
		require.NoError(t, b.run(t), "the thumbnails are there: the photo is completed")
		require.Nil(t, b.finished[0].Failure)
	})
}
