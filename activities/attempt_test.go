package activities_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
	"github.com/photo-processor/photo-processor/workflows"
)

// runWorkflow runs the photo's workflow on a clock that skips timers. It
// returns the sum of the backoffs, and the workflow's error.
func (b *testBundle) runWorkflow(t *testing.T, register func(env *testsuite.TestWorkflowEnvironment)) (paused time.Duration, err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.RegisterWorkflow(workflows.ProcessPhoto)
	if register == nil {
		env.RegisterActivity(b.Activities)
	} else {
		register(env)
	}
	start := env.Now()
	env.ExecuteWorkflow(workflows.ProcessPhoto, workflows.ProcessPhotoInput{Photo: b.photo})
	require.True(t, env.IsWorkflowCompleted())
	return env.Now().Sub(start).Round(time.Second), env.GetWorkflowError()
}

func (b *testBundle) requireFailed(t *testing.T, err error, code photo.Code) {
	t.Helper()
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, string(code), appErr.Type())
	require.True(t, appErr.NonRetryable())
	p := b.get(t)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, code, p.Failure.Code)
	require.Equal(t, appErr.Message(), p.Failure.Message)
}

// scripted is a renderer whose first renders return the results of the scripts,
// one each.
type scripted struct {
	activities.Renderer
	scripts []func() error
	renders int
}

func (s *scripted) Render(ctx context.Context, source renderer.Source) (photo.Rendering, error) {
	s.renders++
	if s.renders <= len(s.scripts) {
		return photo.Rendering{}, s.scripts[s.renders-1]()
	}
	return s.Renderer.Render(ctx, source)
}

func repeat(n int, err error) (scripts []func() error) {
	for range n {
		scripts = append(scripts, func() error { return err })
	}
	return scripts
}

// TestRetryBudgets checks the number of attempts and the backoff of each code.
func TestRetryBudgets(t *testing.T) {
	const forever = 100
	for name, c := range map[string]struct {
		answer   http.HandlerFunc // nil: a picture
		scripts  []func() error   // of the renderer
		code     photo.Code       // "": completed
		requests int32
		renders  int
		paused   time.Duration
	}{
		"nothing fails": {requests: 1, renders: 1},
		"source_unavailable": {answer: status(http.StatusServiceUnavailable),
			code: photo.SourceUnavailable, requests: 5, paused: (2 + 6 + 18 + 54) * time.Second},
		"Retry-After": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
		}, code: photo.SourceUnavailable, requests: 5, paused: 4 * 77 * time.Second},
		"source_forbidden": {answer: status(http.StatusForbidden), code: photo.SourceForbidden, requests: 1},
		"render_crashed": {scripts: repeat(forever, photo.Fail(photo.RenderCrashed, "the renderer crashed")),
			code: photo.RenderCrashed, requests: 1, renders: 2, paused: 2 * time.Second},
		"render_timeout": {scripts: repeat(forever, photo.Fail(photo.RenderTimeout, "too slow")),
			code: photo.RenderTimeout, requests: 1, renders: 2, paused: 2 * time.Second},
		"an unknown error": {scripts: repeat(forever, errors.New("password=hunter2")),
			code: photo.Internal, requests: 1, renders: 3, paused: 8 * time.Second},
		"a panic": {scripts: []func() error{func() error { panic("a defect") }, func() error { panic("a defect") }, func() error { panic("a defect") }},
			code: photo.Internal, requests: 1, renders: 3, paused: 8 * time.Second},
		"each code has its own": {scripts: []func() error{
			func() error { return photo.Fail(photo.RenderCrashed, "") }, func() error { return photo.Fail(photo.RenderTimeout, "") },
			func() error { return errors.New("") }, func() error { return errors.New("") },
		}, requests: 1, renders: 5, paused: 80 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			if c.answer != nil {
				b.answer.Store(&c.answer)
			}
			scripted := &scripted{Renderer: b.Renderer, scripts: c.scripts}
			b.Renderer = scripted
			paused, err := b.runWorkflow(t, nil)
			if c.code == "" {
				require.NoError(t, err)
				require.Equal(t, photo.Completed, b.get(t).Status)
			} else {
				b.requireFailed(t, err, c.code)
				require.NotContains(t, err.Error(), "hunter2", "details of defects are for the log")
			}
			require.Equal(t, c.requests, b.requests.Load())
			require.Equal(t, c.renders, scripted.renders)
			require.Equal(t, c.paused, paused)
			b.requireExact(t)
		})
	}
}

// TestInfrastructureErrorsSpendNoBudget makes the source cache unreadable six
// times between the two crashes of the renderer that fail the photo.
func TestInfrastructureErrorsSpendNoBudget(t *testing.T) {
	b := setup(t)
	scripted := &scripted{Renderer: b.Renderer, scripts: append(repeat(1, photo.Fail(photo.RenderCrashed, "")),
		append(repeat(6, &renderer.SourceReadError{Err: errors.New("input/output error")}), repeat(1, photo.Fail(photo.RenderCrashed, ""))...)...)}
	b.Renderer = scripted
	_, err := b.runWorkflow(t, nil)
	b.requireFailed(t, err, photo.RenderCrashed)
	require.Equal(t, 8, scripted.renders)
	require.EqualValues(t, 1, b.requests.Load())
}

// TestLostWorkers loses workers during MakeThumbnails: their attempts end with
// a heartbeat timeout and report nothing.
func TestLostWorkers(t *testing.T) {
	lost := temporal.NewHeartbeatTimeoutError()
	for name, c := range map[string]struct {
		lost      func(attempt int32) bool
		completed bool
		takeover  string // in the log
	}{
		"four in a row":  {func(attempt int32) bool { return attempt <= 4 }, true, "activity=MakeThumbnails lost_workers=4"},
		"five in a row":  {func(attempt int32) bool { return attempt <= 5 }, false, "activity=MakeThumbnails lost_workers=5"},
		"four and three": {func(attempt int32) bool { return attempt != 5 && attempt <= 8 }, true, "activity=MakeThumbnails lost_workers=3"},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.Renderer = &scripted{Renderer: b.Renderer, scripts: repeat(1, &renderer.SourceReadError{Err: errors.New("input/output error")})}
			var log bytes.Buffer
			b.logTo(&log)
			local := true
			_, err := b.runWorkflow(t, func(env *testsuite.TestWorkflowEnvironment) {
				for name, act := range map[string]any{"MarkProcessing": b.MarkProcessing, "FetchSource": b.FetchSource, "Finish": b.Finish,
					"MakeThumbnails": func(ctx context.Context, in activities.MakeThumbnailsInput) (*activities.MakeThumbnailsResult, error) {
						info := activity.GetInfo(ctx)
						if local = local && info.IsLocalActivity; local || !info.IsLocalActivity && c.lost(info.Attempt) {
							return nil, lost
						}
						return b.MakeThumbnails(ctx, in)
					}} {
					env.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: name})
				}
			})
			require.Contains(t, log.String(), c.takeover)
			if c.completed {
				require.NoError(t, err)
				require.Equal(t, photo.Completed, b.get(t).Status)
				return
			}
			b.requireFailed(t, err, photo.RenderCrashed)
			require.Contains(t, err.Error(), "the worker was lost 5 times")
		})
	}
}

// TestALocalFailureIsReported by the first attempt that is not lost with its
// worker, and by no later attempt.
func TestALocalFailureIsReported(t *testing.T) {
	b := setup(t)
	b.mark(t, b.run)
	local := &photo.Failure{Code: photo.SourceUnavailable, Message: "the source answered 503", RetryAfter: time.Minute}
	in := activities.FetchSourceInput{StepInput: activities.StepInput{Run: b.run, LocalFailure: local}}
	_, err := b.env.ExecuteActivity(b.FetchSource, in)
	appErr := requireType(t, err, string(photo.SourceUnavailable), true)
	require.Equal(t, time.Minute, appErr.NextRetryDelay())
	require.Zero(t, b.requests.Load())
	b.env.SetHeartbeatDetails(activities.Progress{LastReportedAttempt: 1})
	_, err = b.env.ExecuteActivity(b.FetchSource, in)
	require.NoError(t, err)
	b.env.SetHeartbeatDetails("of another version")
	_, err = b.env.ExecuteActivity(b.FetchSource, in)
	requireType(t, err, string(photo.SourceUnavailable), true)
}

// TestAnAttemptReportsThatItRanOutOfTime checks that an attempt ends before its
// start-to-close timeout, reports that, and spends no retry budget.
func TestAnAttemptReportsThatItRanOutOfTime(t *testing.T) {
	b := setup(t)
	b.mark(t, b.run)
	stall := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	b.answer.Store(&stall)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivity(b.Activities)
	var progress activities.Progress
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) { _ = details.Get(&progress) })
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: 6 * time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		})
		return workflow.ExecuteActivity(ctx, b.FetchSource, activities.FetchSourceInput{StepInput: step(b.run)}).Get(ctx, nil)
	})
	requireType(t, env.GetWorkflowError(), activities.AttemptTimeout, true)
	require.Equal(t, activities.Progress{LastReportedAttempt: 1}, progress)
	require.NoError(t, b.finish(b.run, nil)) // ends the fetch
}

// TestAPanicInTheFetch panics in the goroutine of the fetch, not of the
// activity.
func TestAPanicInTheFetch(t *testing.T) {
	b := setup(t)
	b.DB = nil
	_, err := b.fetch(b.run)
	requireType(t, err, string(photo.Internal), true)
}
