package worker

import (
	"context"
	"sync"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/worker"
	"golang.org/x/sync/semaphore"
)

// room bounds the workflow tasks that a worker has at a time, and so the photos
// that it makes the first attempt at. There is as much of it for photos that
// Temporal hands out, for those that the worker goes on with, and for those that
// it has started itself. None takes another's: what is handed out comes before
// the rest of a batch, and a poller, which has a slot for as long as it waits for
// a task, keeps no other kind waiting.
//
// It is the SDK's supplier of slots for workflow tasks.
type room struct {
	photos int
	handed *semaphore.Weighted // for tasks from the queue
	sticky *semaphore.Weighted // for further tasks of what the worker has in memory
	own    *semaphore.Weighted // for first tasks of the workflows that it starts

	mu       sync.Mutex
	starts   int // workflows that are being started
	promised int // of own: reserved for them, and not yet taken
}

func newRoom(photos int) *room {
	n := int64(photos)
	return &room{photos: photos, handed: semaphore.NewWeighted(n), sticky: semaphore.NewWeighted(n), own: semaphore.NewWeighted(n)}
}

// tuner has a worker keep to the room, and to the number of activities.
func (r *room) tuner(numActivities int) (worker.WorkerTuner, error) {
	fixed, err := worker.NewFixedSizeTuner(worker.FixedSizeTunerOptions{
		NumActivitySlots: numActivities,
		// Never waited for: a workflow task has one local activity at a time.
		NumLocalActivitySlots: r.MaxSlots() + localActivityPollers,
	})
	if err != nil {
		return nil, err
	}
	return worker.NewCompositeTuner(worker.CompositeTunerOptions{
		WorkflowSlotSupplier:        r,
		ActivitySlotSupplier:        fixed.GetActivityTaskSlotSupplier(),
		LocalActivitySlotSupplier:   fixed.GetLocalActivitySlotSupplier(),
		NexusSlotSupplier:           fixed.GetNexusSlotSupplier(),
		SessionActivitySlotSupplier: fixed.GetSessionActivitySlotSupplier(),
	})
}

// localActivityPollers is how many slots the SDK reserves before it knows of a
// local activity to run.
const localActivityPollers = 2

// reserveOwn waits until there is room for a workflow of the worker's own, and
// keeps it for the one that is then started: until its task takes it, or at
// most until done is called.
func (r *room) reserveOwn(ctx context.Context) (done func(), err error) {
	if err := r.own.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts++
	r.promised++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.starts--
		if r.promised > r.starts { // nobody took it
			r.promised--
			r.own.Release(1)
		}
	}, nil
}

// ReserveSlot waits for room for a task that is about to be polled for.
func (r *room) ReserveSlot(ctx context.Context, info worker.SlotReservationInfo) (*worker.SlotPermit, error) {
	slots := r.handed
	if info.TaskQueueKind() == enumspb.TASK_QUEUE_KIND_STICKY {
		slots = r.sticky
	}
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return &worker.SlotPermit{UserData: slots}, nil
}

// TryReserveSlot gives room for the task of a workflow that is about to be
// started, if it has been reserved; nil otherwise.
func (r *room) TryReserveSlot(worker.SlotReservationInfo) *worker.SlotPermit {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.promised == 0 {
		return nil
	}
	r.promised--
	return &worker.SlotPermit{UserData: r.own}
}

// MarkSlotUsed does nothing: a slot that is reserved is taken.
func (r *room) MarkSlotUsed(worker.SlotMarkUsedInfo) {}

// ReleaseSlot gives the room back.
func (r *room) ReleaseSlot(info worker.SlotReleaseInfo) {
	info.Permit().UserData.(*semaphore.Weighted).Release(1)
}

// MaxSlots is how many slots there are at most.
func (r *room) MaxSlots() int { return 3 * r.photos }
