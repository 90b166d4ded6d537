package activities_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/webhook"
)

// posted is a webhook that a receiver got.
type posted struct {
	id   string
	Type string
	Data struct {
		UUID   uuid.UUID
		Status string
		ID     uuid.UUID
		Done   bool
	}
}

// receive has the activities post to a receiver, which answers with the status.
func (b *testBundle) receive(t *testing.T, status *atomic.Int32) func() []posted {
	t.Helper()
	var mu sync.Mutex
	var got []posted
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event := posted{id: r.Header.Get("webhook-id")}
		if json.NewDecoder(r.Body).Decode(&event) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, event)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	var err error
	b.Webhook, err = webhook.New(webhook.Config{URL: server.URL, Secrets: []string{"whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, Timeout: time.Minute})
	require.NoError(t, err)
	return func() []posted {
		mu.Lock()
		defer mu.Unlock()
		all := got
		got = nil
		return all
	}
}

func TestNotify(t *testing.T) {
	b := setup(t)
	var status atomic.Int32
	status.Store(http.StatusOK)
	received := b.receive(t, &status)
	notify := func(in activities.NotifyInput) error {
		_, err := b.env.ExecuteActivity(b.Notify, in)
		return err
	}
	in := activities.NotifyInput{Run: b.run}
	require.NoError(t, notify(in))
	require.Empty(t, received(), "the run does not own the photo yet")

	b.mark(t, b.run)
	value, err := b.env.ExecuteActivity(b.Finish, activities.FinishInput{StepInput: step(b.run), Failure: photo.Fail(photo.SourceTimeout, "slow")})
	require.NoError(t, err)
	var next activities.FinishResult
	require.NoError(t, value.Get(&next))
	require.Equal(t, activities.FinishResult{Notify: true}, next)
	require.NoError(t, notify(in))
	events := received()
	require.Len(t, events, 1)
	require.Equal(t, "photo.failed", events[0].Type)
	require.Equal(t, b.run.ID, events[0].id)
	require.Equal(t, b.photo, events[0].Data.UUID)
	require.Equal(t, "failed", events[0].Data.Status)

	status.Store(http.StatusInternalServerError)
	requireType(t, notify(in), activities.WebhookFailed, true)
	_, err = b.env.ExecuteLocalActivity(b.Notify, in)
	require.ErrorContains(t, err, "is away")
	require.Len(t, received(), 1, "the local activity did not try")
	status.Store(http.StatusGone)
	require.NoError(t, notify(in))
	require.Equal(t, b.run.ID, received()[0].id)

	status.Store(http.StatusOK)
	b.mark(t, b.nextRun())
	require.NoError(t, notify(in))
	require.Empty(t, received(), "the newer run's end is posted instead")
	require.NoError(t, notify(activities.NotifyInput{Run: photo.Run{Photo: uuid.New(), ID: "x"}}))
	require.Empty(t, received(), "there is no such photo")
}

func TestNotifyOfABatch(t *testing.T) {
	b := setup(t)
	var status atomic.Int32
	status.Store(http.StatusOK)
	received := b.receive(t, &status)
	batch := uuid.New()
	_, err := b.env.ExecuteActivity(b.CreateBatch, activities.CreateBatchInput{Batch: batch, Photos: photo.IDs{b.photo}})
	require.NoError(t, err)
	_, err = b.env.ExecuteActivity(b.EndBatch, activities.EndBatchInput{Batch: batch})
	require.NoError(t, err)
	await := func() error {
		_, err := b.env.ExecuteActivity(b.AwaitBatch, activities.AwaitBatchInput{Batch: batch})
		return err
	}
	waiting := requireType(t, await(), activities.BatchNotDone, true)
	require.GreaterOrEqual(t, waiting.NextRetryDelay(), time.Second)
	require.Contains(t, waiting.Message(), "0 of 1")
	b.mark(t, b.run)
	require.NoError(t, b.finish(b.run, photo.Fail(photo.SourceTimeout, "slow")))
	require.NoError(t, await())
	_, err = b.env.ExecuteActivity(b.Notify, activities.NotifyInput{Batch: batch})
	require.NoError(t, err)
	events := received()
	require.Len(t, events, 1)
	require.Equal(t, "batch.done", events[0].Type)
	require.Equal(t, batch.String(), events[0].id)
	require.Equal(t, batch, events[0].Data.ID)
	require.True(t, events[0].Data.Done)
}
