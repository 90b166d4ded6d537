package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/photo-processor/photo-processor/api"
)

func TestWithoutTemporal(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutTemporal(t))
	id := uuids(1)[0]
	got := b.post(t, "/photos/process", fmt.Sprintf(`[%q]`, id))
	requireError(t, got, http.StatusServiceUnavailable, "0 of 1 workflows were started", "safe")
	require.Equal(t, "5", got.header.Get("Retry-After"))
	require.NotContains(t, got.body, "127.0.0.1", "details are for the log")
	require.Contains(t, b.log.String(), "request failed")

	added := b.post(t, "/photos?process=true", `{"url":"https://photos.example/1.jpg"}`)
	require.Equal(t, http.StatusServiceUnavailable, added.status)
	var withPhotos struct {
		Message string
		Photos  []struct{ UUID uuid.UUID }
	}
	require.NoError(t, json.Unmarshal([]byte(added.body), &withPhotos))
	require.Contains(t, withPhotos.Message, "have been added")
	require.Len(t, withPhotos.Photos, 1)

	require.Equal(t, http.StatusOK, b.get(t, "/photos/pending").status, "reads need no Temporal")
	require.Equal(t, http.StatusOK, b.get(t, "/photos/"+withPhotos.Photos[0].UUID.String()).status)
	ready := b.get(t, "/readyz")
	requireJSON(t, ready, http.StatusServiceUnavailable, `{"message":"Not ready","postgresql":"ok","temporal":"unreachable","thumbnails_bucket":"ok"}`+"\n")
}

// TestTemporalsErrorsAreNamed lets Temporal answer each start with an error that
// an operator has to mend.
func TestTemporalsErrorsAreNamed(t *testing.T) {
	t.Parallel()
	namespaceNotFound := serviceerror.ToStatus(serviceerror.NewNamespaceNotFound("photos")).Err()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"access":              {status.Error(codes.PermissionDenied, "secret-reason"), "Temporal denies access"},
		"key":                 {status.Error(codes.Unauthenticated, "secret-reason"), "Temporal denies access"},
		"namespace":           {namespaceNotFound, "Temporal does not have the namespace"},
		"input":               {status.Error(codes.InvalidArgument, "secret-reason"), "Temporal refuses the request"},
		"message":             {status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), "Temporal refuses the request"},
		"something transient": {status.Error(codes.Unavailable, "secret-reason"), "Temporal cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(s *api.Server) {
				s.Config.HTTPTimeout = time.Second
				s.Temporal = dial(t, os.Getenv("TEMPORAL_ADDRESS"), grpc.WithChainUnaryInterceptor(
					func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
						if strings.HasSuffix(method, "/StartWorkflowExecution") {
							return test.err
						}
						return next(ctx, method, req, reply, conn, options...)
					}))
			})
			got := b.post(t, "/photos/process", fmt.Sprintf(`[%q]`, uuids(1)[0]))
			requireError(t, got, http.StatusServiceUnavailable, test.want, "0 of 1 workflows were started")
			require.NotContains(t, got.body, "secret-reason", "details are for the log")
			added := b.post(t, "/photos?process=true", `{"url":"https://photos.example/1.jpg"}`)
			require.Contains(t, added.body, test.want)
		})
	}
}

func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutPostgres(t))
	for _, path := range []string{"/photos/pending", "/photos/" + uuid.NewString()} {
		got := b.get(t, path)
		requireError(t, got, http.StatusServiceUnavailable, "database")
		require.Equal(t, "5", got.header.Get("Retry-After"))
	}
	requireError(t, b.post(t, "/photos", `{"url":"https://photos.example/1.jpg"}`), http.StatusServiceUnavailable, "database")
	require.Equal(t, http.StatusCreated, b.post(t, "/photos/process", fmt.Sprintf(`[%q]`, uuid.New())).status, "starting needs no database")
	requireJSON(t, b.get(t, "/readyz"), http.StatusServiceUnavailable, `{"message":"Not ready","postgresql":"unreachable","temporal":"ok","thumbnails_bucket":"ok"}`+"\n")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireJSON(t, b.get(t, "/healthz"), http.StatusOK, `{"status":"ok"}`+"\n")
	requireJSON(t, b.get(t, "/readyz"), http.StatusOK, `{"message":"Ready","postgresql":"ok","temporal":"ok","thumbnails_bucket":"ok"}`+"\n")
}
