package webhook_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/webhook"
)

const (
	newSecret = "whsec_bmV3c2VjcmV0bmV3c2VjcmV0bmV3c2VjcmV0"
	oldSecret = "whsec_b2xkc2VjcmV0b2xkc2VjcmV0b2xkc2VjcmV0"
)

type receiver struct {
	*httptest.Server
	status   atomic.Int32
	requests atomic.Int32
	last     atomic.Pointer[http.Header]
	body     atomic.Pointer[[]byte]
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.status.Store(http.StatusNoContent)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		body, _ := io.ReadAll(req.Body)
		header := req.Header.Clone()
		r.last.Store(&header)
		r.body.Store(&body)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(r.Close)
	return r
}

func sender(t *testing.T, url string) *webhook.Sender {
	t.Helper()
	s, err := webhook.New(webhook.Config{URL: url, Secrets: []string{newSecret, oldSecret}, Timeout: 10 * time.Second})
	require.NoError(t, err)
	return s
}

var event = webhook.Event{ID: "run-1", Type: "photo.completed", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Data: map[string]string{"uuid": "x"}}

// TestSend verifies the signatures with the standard's own library, as a receiver
// does that has only one of the secrets.
func TestSend(t *testing.T) {
	t.Parallel()
	r := receive(t)
	require.NoError(t, sender(t, r.URL).Send(t.Context(), event))
	for _, secret := range []string{newSecret, oldSecret} {
		verifier, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(*r.body.Load(), *r.last.Load()))
	}
	require.Equal(t, "run-1", r.last.Load().Get("webhook-id"))
	require.Equal(t, "application/json", r.last.Load().Get("Content-Type"))
	var body map[string]any
	require.NoError(t, json.Unmarshal(*r.body.Load(), &body))
	require.Equal(t, map[string]any{"type": "photo.completed", "timestamp": "2026-01-02T03:04:05Z", "data": map[string]any{"uuid": "x"}}, body)
}

func TestSendReportsWhatTheReceiverAnswers(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := sender(t, r.URL+"?token=secret")
	require.False(t, s.IsAway())
	r.status.Store(http.StatusInternalServerError)
	require.ErrorContains(t, s.Send(t.Context(), event), "answered 500")
	require.True(t, s.IsAway())
	r.status.Store(http.StatusFound)
	require.ErrorContains(t, s.Send(t.Context(), event), "answered 302")
	require.EqualValues(t, 2, r.requests.Load(), "the redirect was not followed")
	r.status.Store(http.StatusGone)
	require.ErrorIs(t, s.Send(t.Context(), event), webhook.ErrGone)
	require.False(t, s.IsAway(), "it has answered")
	r.Close()
	err := s.Send(t.Context(), event)
	require.ErrorContains(t, err, "cannot be reached")
	require.NotContains(t, err.Error(), "secret")
	require.True(t, s.IsAway())
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	require.NoError(t, webhook.CheckSecret(newSecret))
	for _, secret := range []string{"", "x", "whsec_", "whsec_*", "whsec_c2hvcnQ=", newSecret[6:]} {
		err := webhook.CheckSecret(secret)
		require.Error(t, err, secret)
		if len(secret) > 6 {
			require.NotContains(t, err.Error(), secret)
		}
	}
}
