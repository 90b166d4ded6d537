package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

// batch is the JSON of a batch.
type batch struct {
	ID                                            uuid.UUID
	Created                                       time.Time  `json:"created_at"`
	DoneAt                                        *time.Time `json:"done_at"`
	Total, Pending, Processing, Completed, Failed int
	Failures                                      map[photo.Code]int
	Done, Canceled                                bool
	Query                                         string
}

// startDirectly sets the largest number of photos that the API starts itself.
func startDirectly(n int) option {
	return func(s *api.Server) { s.Config.StartDirectly = n }
}

// process posts the UUIDs, and requires that all are accepted.
func (b *testBundle) process(t *testing.T, ids ...uuid.UUID) response {
	t.Helper()
	body, err := json.Marshal(append([]uuid.UUID{}, ids...)) // [], not null
	require.NoError(t, err)
	got := b.post(t, "/photos/process", string(body))
	requireJSON(t, got, http.StatusCreated, fmt.Sprintf(`{"accepted":%s,"rejected":[]}`+"\n", body))
	return got
}

// requireBatch follows the Location of a response, and checks the counts as
// "pending processing completed failed".
func (b *testBundle) requireBatch(t *testing.T, posted response, want string) (got batch) {
	t.Helper()
	location := posted.header.Get("Location")
	require.Regexp(t, `^/batches/[0-9a-f-]{36}$`, location)
	shown := b.get(t, location)
	require.Equal(t, http.StatusOK, shown.status, shown.body)
	require.NoError(t, json.Unmarshal([]byte(shown.body), &got))
	require.Equal(t, location, "/batches/"+got.ID.String())
	require.Equal(t, want, fmt.Sprint(got.Pending, got.Processing, got.Completed, got.Failed))
	require.Equal(t, got.Pending+got.Processing+got.Completed+got.Failed, got.Total)
	require.Equal(t, got.Done, got.DoneAt != nil)
	return got
}

// requireNoBatch requires that the response has none, and that none exists.
func (b *testBundle) requireNoBatch(t *testing.T, posted response) {
	t.Helper()
	require.NotContains(t, posted.header, "Location")
	requireJSON(t, b.get(t, "/batches"), http.StatusOK, "[]\n")
}

// openRun returns the run of the photo's open workflow.
func (b *testBundle) openRun(t *testing.T, id uuid.UUID) photo.Run {
	t.Helper()
	run := photo.Run{Photo: id, ID: b.running(t, id), StartedAt: time.Now()}
	require.NotEmpty(t, run.ID)
	return run
}

func (b *testBundle) mark(t *testing.T, run photo.Run) {
	t.Helper()
	_, err := b.api.DB.MarkProcessing(t.Context(), run)
	require.NoError(t, err)
}

func (b *testBundle) finish(t *testing.T, run photo.Run, failure *photo.Failure) {
	t.Helper()
	_, first, err := b.api.DB.Finish(t.Context(), run, failure)
	require.NoError(t, err)
	require.True(t, first)
}

func TestBatchOfPostedPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	added := b.add(t, "https://photos.example/1.jpg", "https://photos.example/2.jpg", "https://photos.example/3.jpg", "https://photos.example/4.jpg")
	completed, open, processing, fresh := added[0].UUID, added[1].UUID, added[2].UUID, added[3].UUID
	b.finish(t, photo.Run{Photo: completed, ID: "before", StartedAt: time.Now().Add(-time.Minute)}, nil)
	b.requireNoBatch(t, b.process(t, open))
	b.requireNoBatch(t, b.process(t, processing))
	openRun, processingRun := b.openRun(t, open), b.openRun(t, processing)
	b.mark(t, processingRun)

	posted := b.process(t, completed, open, processing, fresh, uuid.New())
	got := b.requireBatch(t, posted, "3 1 0 1")
	require.Equal(t, map[photo.Code]int{photo.NotFound: 1}, got.Failures)
	require.False(t, got.Done)
	require.Empty(t, got.Query)

	b.finish(t, openRun, nil)
	b.requireBatch(t, posted, "2 1 1 1")
	b.finish(t, processingRun, photo.Fail(photo.SourceTimeout, "too slow"))
	got = b.requireBatch(t, posted, "2 0 1 2")
	require.Equal(t, map[photo.Code]int{photo.NotFound: 1, photo.SourceTimeout: 1}, got.Failures)
	b.mark(t, b.openRun(t, fresh))
	b.requireBatch(t, posted, "1 1 1 2")
	b.finish(t, b.openRun(t, completed), nil)
	require.False(t, b.requireBatch(t, posted, "0 1 2 2").Done)
	b.finish(t, photo.Run{Photo: fresh, ID: "newer", StartedAt: time.Now()}, nil)
	done := b.requireBatch(t, posted, "0 0 3 2")
	require.True(t, done.Done)

	b.mark(t, photo.Run{Photo: open, ID: "later", StartedAt: time.Now()})
	require.Equal(t, done, b.requireBatch(t, posted, "0 0 3 2"), "a batch that is done does not change")
}

func TestBatchOfMissingPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.requireBatch(t, b.process(t, uuids(2)...), "0 0 0 2")
	require.True(t, got.Done, "no workflow can change it")
}

func TestOnePhotoIsNoBatch(t *testing.T) {
	t.Parallel()
	for _, directly := range []int{100, 0} {
		t.Run(fmt.Sprintf("START_DIRECTLY=%d", directly), func(t *testing.T) {
			t.Parallel()
			b := setup(t, startDirectly(directly))
			ids := uuids(2)
			b.requireNoBatch(t, b.process(t))
			b.requireNoBatch(t, b.process(t, ids[0]))
			b.requireNoBatch(t, b.process(t, ids[1], ids[1]))
			for _, id := range ids {
				require.NotEmpty(t, b.running(t, id))
			}
		})
	}
}

func TestBatchOfNewPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const one = `{"url":"https://photos.example/1.jpg"}`
	b.requireNoBatch(t, b.post(t, "/photos?process=true", one))
	b.requireNoBatch(t, b.post(t, "/photos", "["+one+","+one+"]"))
	posted := b.post(t, "/photos?process=true", "["+one+","+one+"]")
	require.Equal(t, http.StatusCreated, posted.status)
	b.requireBatch(t, posted, "2 0 0 0")
}

// TestBatchOfAWorkflow posts photos that a workflow is to start. The batch must
// exist before the workflow's first task.
func TestBatchOfAWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t, startDirectly(1))
	added := b.add(t, "https://photos.example/1.jpg", "https://photos.example/2.jpg")
	posted := b.process(t, added[0].UUID, added[1].UUID)
	got := b.requireBatch(t, posted, "2 0 0 0")
	var in workflows.StartPhotosInput
	b.pollInput(t, "StartPhotos", &in)
	require.Equal(t, workflows.StartPhotosInput{Batch: got.ID, Photos: photo.IDs{added[0].UUID, added[1].UUID}}, in)

	posted = b.process(t, uuids(2)...)
	require.False(t, b.requireBatch(t, posted, "0 0 0 2").Done, "its workflow may add photos")
}

func TestBatchesWithoutTemporal(t *testing.T) {
	t.Parallel()
	for _, directly := range []int{100, 1} {
		t.Run(fmt.Sprintf("START_DIRECTLY=%d", directly), func(t *testing.T) {
			t.Parallel()
			b := setup(t, withoutTemporal(t), startDirectly(directly))
			ids := uuids(2)
			posted := b.post(t, "/photos/process", fmt.Sprintf("[%q,%q]", ids[0], ids[1]))
			requireError(t, posted, http.StatusServiceUnavailable, "Temporal cannot be reached", "0 of 2")
			b.requireNoBatch(t, posted)
			posted = b.post(t, "/photos?process=true", `[{"url":"https://photos.example/1.jpg"},{"url":"https://photos.example/2.jpg"}]`)
			require.Equal(t, http.StatusServiceUnavailable, posted.status)
			b.requireNoBatch(t, posted)
			posted = b.post(t, "/photos/process?status=failed", "")
			requireError(t, posted, http.StatusServiceUnavailable, "Temporal cannot be reached")
			b.requireNoBatch(t, posted)
		})
	}
	t.Run("cancel", func(t *testing.T) {
		t.Parallel()
		b := setup(t, withoutTemporal(t))
		id := uuid.New()
		require.NoError(t, b.api.DB.CreateEmptyBatch(t.Context(), id, "status=failed"))
		path := "/batches/" + id.String()
		requireError(t, b.do(t, http.MethodDelete, path, ""), http.StatusServiceUnavailable, "Temporal cannot be reached")
		require.Equal(t, http.StatusOK, b.get(t, path).status)
	})
}

// TestBatchesWithoutPostgres posts photos while the API cannot reach PostgreSQL,
// which it needs for the batch only.
func TestBatchesWithoutPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutPostgres(t), startDirectly(2))
	ids := uuids(2)
	for range 3 {
		require.NotContains(t, b.process(t, ids...).header, "Location")
	}
	for _, id := range ids {
		require.NotEmpty(t, b.running(t, id))
	}
	require.Equal(t, 1, strings.Count(b.log.String(), "photos are processed without a batch"))
	require.Equal(t, 1, strings.Count(b.log.String(), "level=ERROR"))

	for range 3 {
		require.Regexp(t, `^/batches/`, b.process(t, uuids(3)...).header.Get("Location"), "the workflow creates the batch")
	}
	require.Equal(t, 1, strings.Count(b.log.String(), "a batch does not exist until its workflow creates it"))
	selected := b.post(t, "/photos/process?status=failed", "")
	require.Equal(t, http.StatusAccepted, selected.status)
	require.Regexp(t, `^/batches/`, selected.header.Get("Location"))
	require.Equal(t, 2, strings.Count(b.log.String(), "level=ERROR"))

	path := "/batches/" + uuid.NewString()
	for _, got := range []response{b.get(t, "/batches"), b.get(t, path), b.do(t, http.MethodDelete, path, "")} {
		requireError(t, got, http.StatusServiceUnavailable, "database cannot be reached")
	}
}

func TestProcessSelected(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]workflows.StartSelectedInput{
		"status=failed":    {Selection: photo.Selection{Status: photo.Failed}},
		"status=pending":   {Selection: photo.Selection{Status: photo.Pending}},
		"status=completed": {Selection: photo.Selection{Status: photo.Completed}},
		"code=source_timeout&created_before=2026-01-31T12:00:00%2B01:00&limit=7&status=failed": {
			Selection: photo.Selection{Status: photo.Failed, Code: photo.SourceTimeout, CreatedBefore: time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC)},
			Limit:     7,
		},
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			begin := time.Now()
			posted := b.post(t, "/photos/process?"+query, " \n")
			require.Equal(t, http.StatusAccepted, posted.status, posted.body)
			got := b.requireBatch(t, posted, "0 0 0 0")
			require.False(t, got.Done)
			require.False(t, got.Canceled)
			var answered batch
			require.NoError(t, json.Unmarshal([]byte(posted.body), &answered))
			require.WithinDuration(t, got.Created, answered.Created, time.Minute)
			answered.Created = got.Created
			require.Equal(t, got, answered)
			wanted, err := url.ParseQuery(query)
			require.NoError(t, err)
			shown, err := url.ParseQuery(got.Query)
			require.NoError(t, err)
			require.Equal(t, wanted, shown)

			var in workflows.StartSelectedInput
			b.pollInput(t, "StartSelected", &in)
			if want.Selection.CreatedBefore.IsZero() {
				require.WithinRange(t, in.Selection.CreatedBefore, begin, time.Now(), "it ends although photos are added")
			} else {
				require.True(t, want.Selection.CreatedBefore.Equal(in.Selection.CreatedBefore), in.Selection.CreatedBefore)
			}
			want.Batch, want.Query, want.Selection.CreatedBefore = got.ID, got.Query, in.Selection.CreatedBefore
			require.Equal(t, want, in)
		})
	}
}

func TestProcessSelectedRejects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for query, words := range map[string]string{
		"status=processing":                                 "status must be",
		"status=x":                                          "status must be",
		"status=":                                           "status must be",
		"limit=1":                                           "status must be",
		"code=source_timeout":                               "status must be",
		"code=source_timeout&status=pending":                "code needs status=failed",
		"code=x&status=failed":                              "code must be",
		"code=photo_not_found&status=failed":                "code must be",
		"status=failed&created_before=yesterday":            "created_before must be",
		"status=failed&created_before=2026-01-31":           "created_before must be",
		"status=failed&created_before=0001-01-01T00:00:00Z": "created_before must be",
		"status=failed&limit=0":                             "limit must be",
		"status=failed&limit=-1":                            "limit must be",
		"status=failed&limit=x":                             "limit must be",
	} {
		requireError(t, b.post(t, "/photos/process?"+query, ""), http.StatusBadRequest, words)
	}
	for _, body := range []string{fmt.Sprintf("[%q]", uuid.New()), "[]", "null", "x"} {
		requireError(t, b.post(t, "/photos/process?status=failed", body), http.StatusBadRequest, "both UUIDs and the query parameter status")
	}
	requireJSON(t, b.get(t, "/batches"), http.StatusOK, "[]\n")
}

func TestListBatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireJSON(t, b.get(t, "/batches"), http.StatusOK, "[]\n")
	var want []string // newest first
	for range 3 {
		want = append([]string{strings.TrimPrefix(b.process(t, uuids(2)...).header.Get("Location"), "/batches/")}, want...)
	}
	for _, limit := range []int{1, 2, 3} {
		var seen []string
		pages := 0
		for path := fmt.Sprintf("/batches?limit=%d", limit); path != ""; pages++ {
			got := b.get(t, path)
			require.Equal(t, http.StatusOK, got.status, got.body)
			var page []batch
			require.NoError(t, json.Unmarshal([]byte(got.body), &page))
			require.LessOrEqual(t, len(page), limit)
			for _, listed := range page {
				seen = append(seen, listed.ID.String())
				require.Equal(t, 2, listed.Failed)
			}
			path = nextPage(t, got)
		}
		require.Equal(t, want, seen)
		require.Equal(t, (len(want)+limit-1)/limit, pages)
	}
	for _, query := range []string{"limit=0", "limit=1001", "after=x"} {
		requireError(t, b.get(t, "/batches?"+query), http.StatusBadRequest, query[:5])
	}
}

func TestUnknownBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{uuid.NewString(), strings.Repeat("-", 36)} {
		requireError(t, b.get(t, "/batches/"+id), http.StatusNotFound, "no batch")
		requireError(t, b.do(t, http.MethodDelete, "/batches/"+id, ""), http.StatusNotFound, "no batch")
	}
	requireError(t, b.get(t, "/batches/nonsense"), http.StatusNotFound)
}

func TestCancelBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, startDirectly(2))
	cancelRequested := func(id uuid.UUID) bool {
		description, err := b.api.Temporal.DescribeWorkflowExecution(t.Context(), photo.BatchWorkflowID(id), "")
		require.NoError(t, err)
		return description.GetWorkflowExtendedInfo().GetCancelRequested()
	}
	for name, posted := range map[string]response{
		"posted UUIDs":    b.process(t, uuids(3)...),
		"selected photos": b.post(t, "/photos/process?status=pending", ""),
	} {
		t.Run(name, func(t *testing.T) {
			location := posted.header.Get("Location")
			id := uuid.MustParse(strings.TrimPrefix(location, "/batches/"))
			shown := b.get(t, location)
			require.False(t, cancelRequested(id))
			for range 2 {
				requireJSON(t, b.do(t, http.MethodDelete, location, ""), http.StatusOK, shown.body)
				require.True(t, cancelRequested(id))
			}
			require.NoError(t, b.api.Temporal.TerminateWorkflow(t.Context(), photo.BatchWorkflowID(id), "", "test"))
			requireJSON(t, b.do(t, http.MethodDelete, location, ""), http.StatusOK, shown.body)
		})
	}
	t.Run("started directly", func(t *testing.T) {
		ids := uuids(2)
		location := b.process(t, ids...).header.Get("Location")
		shown := b.get(t, location)
		requireJSON(t, b.do(t, http.MethodDelete, location, ""), http.StatusOK, shown.body)
		for _, id := range ids {
			require.NotEmpty(t, b.running(t, id), "photos that were started are processed")
		}
	})
}
