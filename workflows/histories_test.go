package workflows_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/workflows"
)

var record = flag.Bool("record", false, "commit the histories of this run that are not committed yet")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(postgrestest.Main(m))
}

// historiesDir has the committed histories of v1. They are never changed or
// removed, because deployed code must replay the open runs of older code.
const historiesDir = "testdata/histories/v1"

// save waits until the run closes, checks its status, and replays its history.
// With -record it also writes the history to historiesDir, unless the name is
// taken.
func (s *stack) save(t *testing.T, name string, run client.WorkflowRun, want enumspb.WorkflowExecutionStatus) {
	t.Helper()
	_ = run.GetWithOptions(t.Context(), nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	description, err := s.temporal.DescribeWorkflow(t.Context(), run.GetID(), run.GetRunID())
	require.NoError(t, err)
	require.Equal(t, want, description.Status)
	content := s.history(t, run)
	file := filepath.Join(t.TempDir(), name+".json")
	require.NoError(t, os.WriteFile(file, content, 0o644))
	require.NoError(t, replay(file, workflows.ProcessPhoto, workflows.StartPhotos, workflows.StartSelected, workflows.ReconcilePhotos))
	if !*record {
		return
	}
	committed, err := os.OpenFile(filepath.Join(historiesDir, name+".json"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return
	}
	require.NoError(t, err)
	_, err = committed.Write(content)
	require.NoError(t, errors.Join(err, committed.Close()))
	sums, err := os.OpenFile(sumsFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = fmt.Fprintf(sums, "%x  %s.json\n", sha256.Sum256(content), name)
	require.NoError(t, errors.Join(err, sums.Close()))
}

// history returns the run's history in the form of `temporal workflow show
// --output json`.
func (s *stack) history(t *testing.T, run client.WorkflowRun) []byte {
	t.Helper()
	var history historypb.History
	events := s.temporal.GetWorkflowHistory(context.WithoutCancel(t.Context()), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		history.Events = append(history.Events, event)
	}
	content, err := temporalproto.CustomJSONMarshalOptions{Indent: "  "}.Marshal(&history)
	require.NoError(t, err)
	host, err := os.Hostname() // in the names of sticky queues
	require.NoError(t, err)
	t.Log(len(history.Events), "events,", len(content), "bytes")
	return append(bytes.ReplaceAll(content, []byte(`"`+host+":"), []byte(`"host:`)), '\n')
}
