package telemetry_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/worker"
)

// names returns the names of the metrics in a scrape.
func names(scrape string) (names []string) {
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(scrape, -1) {
		names = append(names, found[1])
	}
	return names
}

// scrape scrapes the process until lines match all patterns: steps are counted some
// milliseconds after a photo has its final status.
func scrape(t *testing.T, url string, patterns ...string) (shown string) {
	t.Helper()
	missing := patterns
	enough := assert.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get(url + "/metrics")
		if err != nil {
			return false // not listening yet
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		shown = string(body)
		missing = slices.DeleteFunc(slices.Clone(patterns), func(pattern string) bool {
			return regexp.MustCompile("(?m)^" + strings.ReplaceAll(pattern, "{", `\{`)).Match(body)
		})
		return err == nil && resp.StatusCode == http.StatusOK && len(missing) == 0
	}, 30*time.Second, 20*time.Millisecond)
	if !enough {
		t.Fatalf("%s/metrics does not show %s", url, missing)
	}
	return shown
}

// TestMetrics scrapes both processes after a batch, and compares the metrics with
// docs/metrics.md.
func TestMetrics(t *testing.T) {
	// With one slot, regular activities are not started eagerly: they pass through the
	// task queue.
	b := setup(t, map[string]string{"METRICS_ADDR": freeAddress(t), "WORKER_ACTIVITIES": "1"})
	require.Equal(t, photo.Completed, b.process(t, b.source+"/moved", nil).Status)
	require.Equal(t, photo.Failed, b.process(t, b.source+"/forbidden", nil).Status)
	require.Equal(t, photo.Failed, b.process(t, b.source+"/flaky", nil).Status)
	resp, err := devstacktest.HTTPClient.Head(b.api + "/photos/" + "7d2f0000-0000-4000-8000-000000000000")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	ofWorker := scrape(t, "http://"+b.worker.MetricsAddr,
		`photo_processor_photos_finished_total{code="",status="completed"} 1$`,
		`photo_processor_photos_finished_total{code="source_forbidden",status="failed"} 1$`,
		`photo_processor_step_duration_seconds_count{outcome="ok",step="fetch_source"} 1$`,
		`photo_processor_step_duration_seconds_count{outcome="ok",step="make_thumbnails"} 1$`,
		`photo_processor_step_duration_seconds_count{outcome="ok",step="render"} 1$`,
		`photo_processor_step_duration_seconds_count{outcome="failed",step="fetch"} 3$`,
		`photo_processor_step_duration_seconds_count{outcome="ok",step="finish"} 3$`,
		`photo_processor_source_bytes_total \d\d\d\d+$`,
		`photo_processor_source_cache_lookups_total{result="hit"} 1$`,
		`photo_processor_render_queue_depth 0$`,
		`temporal_worker_task_slots_available{.*worker_type="ActivityWorker".*} [01]$`,
		`temporal_workflow_task_schedule_to_start_latency_seconds_bucket{.*le="0.005"}`,
		`temporal_activity_schedule_to_start_latency_seconds_bucket{activity_type="FetchSource",.*le="0.005"}`,
		`temporal_workflow_failed_total{`,
		`pgxpool_max_connections{.*} 16$`)
	ofAPI := scrape(t, b.metrics,
		`photo_processor_photos{status="processing"} 0$`,
		`photo_processor_photos_oldest_age_seconds{status="pending"} 0$`,
		`photo_processor_task_queue_pollers{type="activity"} 1$`,
		`photo_processor_task_queue_backlog_age_seconds{type="workflow"} 0$`,
		`http_server_request_duration_seconds_count{http_request_method="HEAD",http_response_status_code="404",http_route="/photos/{uuid}"} 1$`,
		`pgxpool_max_connections{.*} 16$`)
	for _, all := range []string{ofAPI, ofWorker} {
		require.False(t, regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-`).MatchString(all), "a label has an id")
	}

	second := b.worker
	second.MetricsAddr = freeAddress(t)
	b.run(worker.Run, second) // the schedule exists: a failed request
	ofSecond := scrape(t, "http://"+second.MetricsAddr, `temporal_request_failure_total{`)

	requireQueriesCanBeAnswered(t, slices.Concat(names(ofAPI), names(ofWorker), names(ofSecond)))

	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z].*?) *\\| *[a-z]* *\\| (\\w+) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)(…?)`").FindAllStringSubmatch(row[1], -1) {
			documented = append(documented, name[1]+name[2])
			for where, scrape := range map[string]string{"API": ofAPI, "worker": ofWorker} {
				if name[2] == "" && (row[2] == where || row[2] == "both") {
					require.True(t, slices.Contains(names(scrape), name[1]), "docs/metrics.md says that %s shows %s", where, name[1])
				}
			}
		}
	}
	require.NotEmpty(t, documented)
	for _, name := range slices.Concat(names(ofAPI), names(ofWorker)) {
		require.True(t, slices.ContainsFunc(documented, func(known string) bool {
			prefix, isPrefix := strings.CutSuffix(known, "…")
			return name == known || isPrefix && strings.HasPrefix(name, prefix)
		}), "docs/metrics.md lacks %s", name)
	}
}

func TestWithoutMetricsAddr(t *testing.T) {
	b := setup(t, nil)
	require.Equal(t, photo.Completed, b.process(t, b.source+"/photo", nil).Status)
	require.Empty(t, b.logs.lines(t, "metrics are served"))
	status, _ := get(t, b.api+"/metrics")
	require.Equal(t, http.StatusNotFound, status, "the API itself shows none: it may be public")
}
