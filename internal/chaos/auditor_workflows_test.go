package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
)

// auditWorkflows waits until no workflow of photos is open, and returns the runs of
// each photo, oldest first.
func (a *auditor) auditWorkflows(ctx context.Context) (map[uuid.UUID][]run, error) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(a.closeTime); ; {
		runs, open, err := a.workflows(ctx)
		if err == nil && len(open) == 0 {
			return runs, nil
		}
		if time.Now().After(deadline) {
			for _, what := range open {
				a.violation("%s", what)
			}
			return runs, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// workflows lists the runs of each photo and the open workflows. The visibility
// store lags behind; a workflow counts as open until its description agrees.
func (a *auditor) workflows(ctx context.Context) (runs map[uuid.UUID][]run, open []string, err error) {
	runs = map[uuid.UUID][]run{}
	batches := 0
	executions, err := a.list(ctx, "WorkflowType IN ('ProcessPhoto', 'StartPhotos', 'DeletePhoto')")
	if err != nil {
		return nil, nil, err
	}
	for _, execution := range executions {
		if execution.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			open = append(open, describe(execution))
		}
		if execution.GetType().GetName() == "StartPhotos" {
			batches++
		}
		text, ok := strings.CutPrefix(execution.GetExecution().GetWorkflowId(), "process-photo-")
		if id, err := uuid.Parse(text); ok && err == nil {
			runs[id] = append(runs[id], run{execution.GetExecution().GetRunId(), execution.GetStatus(), execution.GetStartTime().AsTime()})
		}
	}
	if batches < a.batches {
		open = append(open, fmt.Sprintf("workflows start-photos-…: %d posts were accepted, but there are %d", a.batches, batches))
	}
	for id, want := range a.photos {
		slices.SortFunc(runs[id], func(a, b run) int { return a.started.Compare(b.started) })
		if !want.accepted {
			continue
		}
		described, err := a.temporal.DescribeWorkflowExecution(ctx, "process-photo-"+id.String(), "")
		if err != nil {
			open = append(open, fmt.Sprintf("workflow process-photo-%s: was accepted, but cannot be seen: %s", id, err))
			continue
		}
		execution := described.GetWorkflowExecutionInfo()
		if execution.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			open = append(open, describe(execution))
		} else if !slices.ContainsFunc(runs[id], func(r run) bool {
			return r.id == execution.GetExecution().GetRunId() && r.status == execution.GetStatus()
		}) {
			open = append(open, describe(execution)+" in its history, but not in the list of workflows")
		}
	}
	slices.Sort(open)
	return runs, slices.Compact(open), nil
}

// repeatedStarts returns how often an attempt at each photo's page was repeated: a
// failed or lost attempt may have started photos that the next one starts again.
func (a *auditor) repeatedStarts(ctx context.Context) (map[uuid.UUID]int, error) {
	executions, err := a.list(ctx, "WorkflowType = 'StartPhotos'")
	if err != nil {
		return nil, err
	}
	repeats := map[uuid.UUID]int{}
	for _, execution := range executions {
		var events []*historypb.HistoryEvent
		history := a.temporal.GetWorkflowHistory(ctx, execution.GetExecution().GetWorkflowId(), execution.GetExecution().GetRunId(),
			false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for history.HasNext() {
			event, err := history.Next()
			if err != nil {
				return nil, err
			}
			events = append(events, event)
		}
		if err := countRepeats(events, repeats); err != nil {
			return nil, err
		}
	}
	return repeats, nil
}

// list returns all workflows that match the query.
func (a *auditor) list(ctx context.Context, query string) (executions []*workflowpb.WorkflowExecutionInfo, err error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: query}
	for {
		page, err := a.temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, err
		}
		executions = append(executions, page.GetExecutions()...)
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return executions, nil
		}
	}
}

// countRepeats adds the repeated attempts in the history of one batch.
func countRepeats(events []*historypb.HistoryEvent, repeats map[uuid.UUID]int) error {
	pages := map[int64][]byte{} // UUIDs of 16 bytes, by the event that scheduled them
	for _, event := range events {
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			var input struct{ Photos []byte } // in base64
			if err := json.Unmarshal(scheduled.GetInput().GetPayloads()[0].GetData(), &input); err != nil {
				return err
			}
			pages[event.GetEventId()] = input.Photos
		}
		if started := event.GetActivityTaskStartedEventAttributes(); started != nil {
			for id := range slices.Chunk(pages[started.GetScheduledEventId()], 16) {
				repeats[uuid.UUID(id)] += int(started.GetAttempt()) - 1
			}
		}
	}
	return nil
}

// errorType returns the error type of a failed run.
func (a *auditor) errorType(ctx context.Context, id uuid.UUID, r run) (string, error) {
	if r.status != enumspb.WORKFLOW_EXECUTION_STATUS_FAILED {
		return "", nil
	}
	err := a.temporal.GetWorkflow(ctx, "process-photo-"+id.String(), r.id).Get(ctx, nil)
	if failed := (*temporal.ApplicationError)(nil); errors.As(err, &failed) {
		return failed.Type(), nil
	}
	return "", fmt.Errorf("run %s has failed with %w", r.id, err)
}
