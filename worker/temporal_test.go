package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/worker"
)

// startTemporal starts a server with the settings for this test alone.
func startTemporal(t *testing.T, settings ...string) (address string) {
	t.Helper()
	address, stop, err := devstacktest.Temporal(t.Context(), settings...)
	require.NoError(t, err)
	t.Cleanup(stop)
	t.Setenv("TEMPORAL_ADDRESS", address)
	return address
}

// retryLongPollGracePeriod is how long the SDK polls after an error that it
// takes for permanent, before it stops the worker: 2 minutes. The SDK's own
// tests change this variable.
//
//go:linkname retryLongPollGracePeriod go.temporal.io/sdk/internal.retryLongPollGracePeriod
var retryLongPollGracePeriod time.Duration

// TestADeletedNamespaceEndsTheWorker deletes the worker's namespace: the worker
// is not ready from then on, and Run returns an error that says why.
func TestADeletedNamespaceEndsTheWorker(t *testing.T) {
	address := startTemporal(t, `matching.longPollExpirationInterval="1s"`)
	b := setup(t)
	defer func(usual time.Duration) { retryLongPollGracePeriod = usual }(retryLongPollGracePeriod)
	retryLongPollGracePeriod = time.Second
	namespace := "photos-" + uuid.NewString()
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: address})
	require.NoError(t, err)
	defer namespaces.Close()
	require.NoError(t, namespaces.Register(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	t.Setenv("TEMPORAL_NAMESPACE", namespace)
	port, err := devstack.FreePort()
	require.NoError(t, err)
	b.cfg.MetricsAddr = fmt.Sprintf("127.0.0.1:%d", port)
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(t.Context(), b.cfg, slog.New(slog.DiscardHandler)) }()
	b.readyz(t, "", http.StatusOK)

	_, err = b.temporal.OperatorService().DeleteNamespace(t.Context(), &operatorservice.DeleteNamespaceRequest{Namespace: namespace})
	require.NoError(t, err)
	answer := b.readyz(t, "?verbose", http.StatusServiceUnavailable)
	require.Equal(t, "unreachable", answer["temporal"])
	require.Contains(t, answer["details"].(map[string]any)["temporal"], "not found")
	select {
	case err := <-ended:
		require.ErrorContains(t, err, fmt.Sprintf("it has no namespace %q", namespace))
		require.NotContains(t, err.Error(), "\n", "one line")
	case <-time.After(time.Minute):
		t.Fatal("the worker goes on without its namespace")
	}
}

// TestARateLimitLosesNothing lets Temporal refuse the requests beyond a rate, of
// the client that starts photos and of the worker. All photos are completed.
func TestARateLimitLosesNothing(t *testing.T) {
	const photos = 30
	address := startTemporal(t, "frontend.namespaceRPS=20", "frontend.namespaceBurstRatio=1.0")
	b := setup(t)
	close(b.release)
	ids := b.addMany(t, photos)
	var refused atomic.Int32
	limited, err := client.Dial(client.Options{HostPort: address, ConnectionOptions: client.ConnectionOptions{
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
				err := next(ctx, method, req, reply, conn, options...)
				if status.Code(err) == codes.ResourceExhausted {
					refused.Add(1)
				}
				return err
			})},
	}})
	require.NoError(t, err)
	defer limited.Close()
	b.work(t)
	start := starter.Starter{Temporal: limited, TaskQueue: b.cfg.TaskQueue}
	var group errgroup.Group
	for _, id := range ids {
		group.Go(func() error {
			run, err := start.StartPhoto(t.Context(), id)
			if err == nil {
				err = run.Get(t.Context(), nil)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.Positive(t, refused.Load(), "the limit was reached")
	b.requireCompleted(t)
	require.Len(t, b.completed(t), photos+1)
}
