package worker_test

import (
	"bytes"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/photo-processor/photo-processor/worker"
)

// TestANamespaceWithoutTheSearchAttribute checks that a worker notices, because a
// workflow that set the attribute could not go on.
func TestANamespaceWithoutTheSearchAttribute(t *testing.T) {
	temporal, err := client.Dial(client.Options{HostPort: os.Getenv("TEMPORAL_ADDRESS")})
	require.NoError(t, err)
	defer temporal.Close()
	var log bytes.Buffer
	has := func(namespace string) bool {
		return worker.HasFailureAttributeForTest(t.Context(), temporal, namespace, slog.New(slog.NewTextHandler(&log, nil)))
	}
	require.True(t, has(client.DefaultNamespace))
	require.Empty(t, log.String())

	without := "without-" + uuid.NewString()
	_, err = temporal.WorkflowService().RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: without, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	require.NoError(t, err)
	require.False(t, has(without))
	require.Contains(t, log.String(), "PhotoFailure")
	require.Contains(t, log.String(), without)
}
