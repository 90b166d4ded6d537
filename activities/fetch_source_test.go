package activities_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestSourceFailures(t *testing.T) {
	for name, test := range map[string]struct {
		answer    http.HandlerFunc
		code      photo.Code
		retryable bool
	}{
		"404": {status(404), photo.SourceNotFound, false},
		"403": {status(403), photo.SourceForbidden, false},
		"500": {status(500), photo.SourceUnavailable, true},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "too little")
		}, photo.SourceUnavailable, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.answer.Store(&test.answer)
			b.mark(t, b.run)
			_, err := b.fetch(b.run)
			requireType(t, err, string(test.code), test.retryable)
			require.NotContains(t, err.Error(), "secret", "the URL stays out of histories")
			require.Empty(t, b.files(t), "nothing half-written is left")
		})
	}
	t.Run("429 with Retry-After", func(t *testing.T) {
		b := setup(t)
		answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		b.answer.Store(&answer)
		b.mark(t, b.run)
		_, err := b.fetch(b.run)
		appErr := requireType(t, err, string(photo.SourceUnavailable), true)
		require.Equal(t, 77*time.Second, appErr.NextRetryDelay())
	})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// TestFetchOfAWorkerThatStops cancels the activity's context, as a worker does
// when its shutdown timeout is over.
func TestFetchOfAWorkerThatStops(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{})
	answer := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	b.answer.Store(&answer)
	b.mark(t, b.run)
	go func() {
		<-arrived
		cancel()
	}()
	b.env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	_, err := b.fetch(b.run)
	appErr, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.False(t, appErr.NonRetryable(), "another worker tries again")
	failures := []photo.Code{photo.SourceUnavailable, photo.SourceTimeout, photo.Internal, photo.Canceled}
	require.NotContains(t, failures, photo.Code(appErr.Type()), "it is no failure of the photo")
	require.Empty(t, b.files(t))
}
