package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// TestComposeNatively runs the services of docker-compose.yml without Docker: the
// same programs, in the same order, with exactly their commands and environments,
// waiting for their health checks. It translates hosts, ports and mount paths.
func TestComposeNatively(t *testing.T) {
	if !*clusterFlag {
		t.Skip("only with -cluster; see make test-cluster")
	}
	p := build(t)
	c := newContainers(t, p)
	for _, service := range startOrder(t, c.project) {
		switch {
		case slices.Contains(service.Profiles, "observability"):
			continue // its programs are not built here
		case isStep(service):
			c.runStep(t, service)
			c.runStep(t, service) // each `up` runs it again
		case service.Name == "worker":
			for range 3 { // WORKERS=3
				c.start(t, service)
			}
		default:
			c.start(t, service)
		}
	}

	t.Run("a worker with the bucket of the profile s3", func(t *testing.T) {
		worker := c.project.Services["worker"]
		worker.Environment = maps.Clone(worker.Environment)
		bucket := s3BucketURL(t)
		worker.Environment["THUMBNAILS_BUCKET"] = &bucket
		c.start(t, worker) // ready, it has reached the bucket
	})
	t.Run("the server knows every key of the dynamic configuration", func(t *testing.T) {
		output, err := exec.Command(c.programs.Server, "validate-dynamic-config", repository+"/temporal-config/dynamicconfig.yaml").CombinedOutput()
		require.NoError(t, err, string(output))
		require.NotContains(t, string(output), "warning")
	})
	t.Run("the README's session", func(t *testing.T) {
		p.api = "http://" + c.address("api", 3000)
		var added []client.PhotoSummary
		resp, err := devstacktest.HTTPClient.Post(p.api+"/photos", "", strings.NewReader(`{"url":"http://`+c.address("samples", 3100)+`/photos/mountains.jpg"}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&added))
		require.Len(t, added, 1)
		_, pending := get(t, p.api+"/photos/pending")
		require.Contains(t, pending, added[0].UUID.String())

		resp, err = devstacktest.HTTPClient.Post(p.api+"/photos/process", "", strings.NewReader(`["`+added[0].UUID.String()+`", "not-a-uuid"]`))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		var done client.Photo
		require.Eventually(t, func() bool {
			done = p.photo(t, added[0].UUID)
			return done.Status.IsFinal()
		}, time.Minute, 50*time.Millisecond)
		require.Equal(t, photo.Completed, done.Status)
		require.Len(t, done.Thumbnails, 1)
		code, _ := get(t, p.api+"/thumbnails/"+done.Thumbnails[0].URL)
		require.Equal(t, http.StatusOK, code)
	})
	t.Run("a role enters its own database alone", func(t *testing.T) {
		password := c.project.Services["postgres"].Environment
		for role, variable := range map[string]string{
			"photos": "PHOTOS_PASSWORD", "temporal": "TEMPORAL_PASSWORD", "temporal_visibility": "TEMPORAL_VISIBILITY_PASSWORD",
		} {
			for _, database := range []string{"photos", "temporal", "temporal_visibility"} {
				conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s:%s@%s/%s", role, *password[variable], c.address("postgres", 5432), database))
				if role != database {
					require.ErrorContains(t, err, "permission denied for database", "%s in %s", role, database)
					continue
				}
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
			}
			_, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s:wrong@%s/%s", role, c.address("postgres", 5432), role))
			require.ErrorContains(t, err, "password authentication failed")
		}
	})
	t.Run("the server's metrics and the Web UI", func(t *testing.T) {
		code, _ := get(t, "http://"+c.address("temporal", 8000)+"/metrics")
		require.Equal(t, http.StatusOK, code)
		code, body := get(t, "http://"+c.address("temporal-ui", 8080)+"/api/v1/namespaces")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, `"workflowExecutionRetentionTtl": "2592000s"`)
	})
}
