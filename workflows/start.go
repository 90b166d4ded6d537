package workflows

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Priorities of tasks, by which Temporal hands them out when a queue has more
// than the workers can take. Smaller numbers go first; 3 is the default.
var (
	priorityKeeping = temporal.Priority{PriorityKey: 1} // keeps the rest going, and takes little
	prioritySingle  = temporal.Priority{PriorityKey: 2} // somebody may be waiting for it
	priorityBatch   = temporal.Priority{PriorityKey: 4}
)

// Start starts the workflow that processes a photo. One that runs already is
// left to run; one that has ended is run again.
func Start(ctx context.Context, c client.Client, taskQueue string, id uuid.UUID) (client.WorkflowRun, error) {
	return start(ctx, c, taskQueue, id, prioritySingle, false)
}

// StartInBatch is Start for a photo that comes behind those that are started
// singly. Called again for the same batch, it starts no second run, even if
// the first has ended: of the connection's options, RequestIDs must be one.
//
// Eager has a worker on the same connection take the first task with the answer,
// which spares Temporal a tenth to a quarter of what a photo costs. It is not for
// versioned workers: Temporal then does not look at the version. Nor is it for a
// start that is repeated: a first task that was given out is given out again.
func StartInBatch(ctx context.Context, c client.Client, taskQueue string, id, batch uuid.UUID, eager bool) (client.WorkflowRun, error) {
	ctx = context.WithValue(ctx, requestID{}, uuid.NewSHA1(batch, id[:]).String())
	return start(ctx, c, taskQueue, id, priorityBatch, eager)
}

func start(ctx context.Context, c client.Client, taskQueue string, id uuid.UUID, priority temporal.Priority, eager bool) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       photo.WorkflowID(id),
		TaskQueue:                taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Thumbnails of photo " + id.String(),
		Priority:                 priority,
		EnableEagerStart:         eager,
	}, ProcessPhoto, ProcessPhotoInput{Photo: id})
}

// StartMany starts a workflow that starts those of the photos. When it returns,
// Temporal has them all; with an error, perhaps not.
func StartMany(ctx context.Context, c client.Client, taskQueue string, ids []uuid.UUID) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:            "start-photos-" + uuid.NewString(),
		TaskQueue:     taskQueue,
		StaticSummary: fmt.Sprintf("Start %d photos", len(ids)),
		Priority:      priorityKeeping,
	}, StartPhotos, StartPhotosInput{Photos: ids})
}

// requestID is the key of a value of contexts.
type requestID struct{}

// RequestIDs is an option of connections to Temporal. It has a start carry the
// id that its context has, which the SDK has no option for. A start whose id is
// that of the photo's last run has been made already, to Temporal's server, and
// is answered as it was then.
func RequestIDs() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		id, hasID := ctx.Value(requestID{}).(string)
		if start, isStart := req.(*workflowservice.StartWorkflowExecutionRequest); hasID && isStart {
			start.RequestId = id
		}
		return invoker(ctx, method, req, reply, cc, opts...)
	})
}
