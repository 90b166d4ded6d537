package worker

import (
	"context"
	"sync"

	"go.temporal.io/sdk/worker"
	"golang.org/x/sync/semaphore"
)

// room bounds the workflow tasks that a worker has at a time, and so the photos
// that it makes the first attempt at. There is as much of it for tasks that
// Temporal hands out as for those that come with a workflow that the worker has
// started itself. Neither waits for the other: what is handed out comes before
// the rest of a batch, and pollers that wait for a task keep no batch waiting.
//
// It is the SDK's supplier of slots for workflow tasks.
type room struct {
	photos int
	handed *semaphore.Weighted // for tasks that are handed out
	own    *semaphore.Weighted // for those of the worker's own workflows

	mu       sync.Mutex
	starts   int // workflows that are being started
	promised int // of own: reserved for them, and not yet taken
}

func newRoom(photos int) *room {
	return &room{photos: photos, handed: semaphore.NewWeighted(int64(photos)), own: semaphore.NewWeighted(int64(photos))}
}

// tuner has a worker keep to the room, and to the number of activities.
func (r *room) tuner(numActivities int) (worker.WorkerTuner, error) {
	fixed, err := worker.NewFixedSizeTuner(worker.FixedSizeTunerOptions{
		NumActivitySlots: numActivities,
		// Never waited for: a workflow task has one local activity at a time.
		NumLocalActivitySlots: 2*r.photos + localActivityPollers,
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
func (r *room) ReserveSlot(ctx context.Context, _ worker.SlotReservationInfo) (*worker.SlotPermit, error) {
	if err := r.handed.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return &worker.SlotPermit{UserData: r.handed}, nil
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
func (r *room) MaxSlots() int { return 2 * r.photos }
