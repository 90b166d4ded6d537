package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestFetchCanceled(t *testing.T) {
	t.Parallel()
	errStopping := errors.New("the worker is stopping")
	for name, cause := range map[string]error{"with a cause": errStopping, "without": nil} {
		for _, at := range []string{"slot", "connect", "header", "body", "write"} {
			t.Run(at+" "+name, func(t *testing.T) {
				t.Parallel()
				f := setup(t, func(c *Config) { c.HostConcurrency = 1 })
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				server := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if at == "header" {
						cancel(cause)
					} else {
						_, _ = io.WriteString(w, "photo")
						_ = http.NewResponseController(w).Flush()
					}
					<-r.Context().Done()
				})
				w := io.Discard
				switch at {
				case "slot":
					release, err := f.hosts.acquire(ctx, allowedAddr)
					require.NoError(t, err)
					defer release()
					f.progressInterval = time.Millisecond
				case "connect":
					serveDNS(t, f, func(string) []string { cancel(cause); return nil })
					server = "http://photos.test"
				case "body":
					w = writerFunc(func(p []byte) (int, error) { cancel(cause); return len(p), nil })
				case "write":
					w = writerFunc(func(p []byte) (int, error) { cancel(cause); return 0, ctx.Err() })
				}
				_, err := f.Fetch(ctx, server, w, func(int64) {
					if at == "slot" {
						cancel(cause)
					}
				})
				require.ErrorIs(t, err, context.Canceled)
				if cause != nil {
					require.ErrorIs(t, err, cause)
				}
				require.Empty(t, photo.CodeOf(err), "a cancellation is no failure of the source")
			})
		}
	}
}

func TestFetchDeadlineOfCaller(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := f.Fetch(ctx, server, io.Discard, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, photo.CodeOf(err))
}
