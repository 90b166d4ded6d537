package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/worker"
)

// released is a slot that is given back.
type released struct {
	worker.SlotReleaseInfo
	permit *worker.SlotPermit
}

func (r released) Permit() *worker.SlotPermit { return r.permit }

// polling is what a slot is reserved for.
type polling struct {
	worker.SlotReservationInfo
	kind enumspb.TaskQueueKind
}

func (p polling) TaskQueueKind() enumspb.TaskQueueKind { return p.kind }

var (
	queue  = polling{kind: enumspb.TASK_QUEUE_KIND_NORMAL}
	sticky = polling{kind: enumspb.TASK_QUEUE_KIND_STICKY}
)

// impatient gives a context for what cannot be had.
func impatient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestRoom(t *testing.T) {
	r := newRoom(2)
	require.Equal(t, 6, r.MaxSlots())

	// Pollers take all that is theirs, and no more.
	var handed []*worker.SlotPermit
	for range 2 {
		permit, err := r.ReserveSlot(t.Context(), queue)
		require.NoError(t, err)
		handed = append(handed, permit)
	}
	_, err := r.ReserveSlot(impatient(t), queue)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	_, err = r.ReserveSlot(t.Context(), sticky)
	require.NoError(t, err)

	// Starts have as much of their own.
	require.Nil(t, r.TryReserveSlot(nil), "it has not been reserved")
	var own []*worker.SlotPermit
	for range 2 {
		done, err := r.reserveOwn(t.Context())
		require.NoError(t, err)
		own = append(own, r.TryReserveSlot(nil))
		require.NotNil(t, own[len(own)-1])
		done()
	}
	require.Nil(t, r.TryReserveSlot(nil))
	_, err = r.reserveOwn(impatient(t))
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// Each gets back what was its own.
	r.ReleaseSlot(released{permit: handed[0]})
	_, err = r.reserveOwn(impatient(t))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = r.ReserveSlot(t.Context(), queue)
	require.NoError(t, err)
	r.ReleaseSlot(released{permit: own[0]})
	_, err = r.ReserveSlot(impatient(t), queue)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// A start that takes nothing gives it back when it is done.
	for range 3 {
		done, err := r.reserveOwn(t.Context())
		require.NoError(t, err)
		done()
		require.Nil(t, r.TryReserveSlot(nil))
	}
	r.ReleaseSlot(released{permit: own[1]})
	first, err := r.reserveOwn(t.Context())
	require.NoError(t, err)
	second, err := r.reserveOwn(t.Context())
	require.NoError(t, err)
	require.NotNil(t, r.TryReserveSlot(nil), "of one of the two")
	first()
	_, err = r.reserveOwn(impatient(t))
	require.ErrorIs(t, err, context.DeadlineExceeded, "the other may still take it")
	second()
	_, err = r.reserveOwn(t.Context())
	require.NoError(t, err)
}
