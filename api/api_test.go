package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"gocloud.dev/blob"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
	"github.com/photo-processor/photo-processor/workflows"
)

func TestMain(m *testing.M) {
	os.Exit(devstacktest.WithTemporal(func() int { return postgrestest.Main(m) }))
}

// testBundle is an API on a database and a task queue of its own. No worker
// polls the queue, so that workflows stay as they were started.
type testBundle struct {
	api       *api.Server
	url       string
	transport http.RoundTripper // follows no redirect
	bucket    *blob.Bucket
	log       *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type option func(*api.Server)

func setup(t *testing.T, options ...option) *testBundle {
	t.Helper()
	cfg, err := config.Parse(map[string]string{"DATA_DIR": t.TempDir()})
	require.NoError(t, err)
	cfg.TaskQueue = t.Name() + uuid.NewString()
	thumbnails, err := bucket.Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "thumbnails"))
	require.NoError(t, err)
	temporal := dial(t, os.Getenv("TEMPORAL_ADDRESS"))
	log := &lockedBuffer{}
	server := &api.Server{
		DB: postgrestest.Open(t), Temporal: temporal, Thumbnails: thumbnails, Config: cfg,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	for _, o := range options {
		o(server)
	}
	listening := httptest.NewServer(server.Handler())
	t.Cleanup(listening.Close)
	return &testBundle{
		api: server, url: listening.URL, transport: listening.Client().Transport,
		bucket: server.Thumbnails, log: log}
}

func dial(t *testing.T, address string) client.Client {
	t.Helper()
	temporal, err := client.NewLazyClient(client.Options{HostPort: address, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	return temporal
}

// quiet is for a client whose errors the tests look at.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// withoutTemporal has the API look for Temporal where nobody listens.
func withoutTemporal(t *testing.T) option {
	return func(s *api.Server) {
		s.Temporal = dial(t, "127.0.0.1:1")
		s.Config.HTTPTimeout = time.Second // what is waited for
	}
}

// withoutPostgres does so with PostgreSQL.
func withoutPostgres(t *testing.T) option {
	return func(s *api.Server) {
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
		require.NoError(t, err)
		t.Cleanup(db.Close)
		s.DB = db
	}
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request, and requires that the contract has the response.
func (b *testBundle) do(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.transport.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	requireDocumented(t, resp, content)
	return answer{resp.StatusCode, resp.Header, string(content)}
}

func (b *testBundle) get(t *testing.T, path string) answer {
	t.Helper()
	return b.do(t, http.MethodGet, path, "")
}

// post sends the body as curl -d does: with the Content-Type of a form.
func (b *testBundle) post(t *testing.T, path, body string) answer {
	t.Helper()
	return b.do(t, http.MethodPost, path, body, "Content-Type", "application/x-www-form-urlencoded")
}

func requireAnswer(t *testing.T, got answer, status int, body string) {
	t.Helper()
	require.Equal(t, body, got.body)
	require.Equal(t, status, got.status)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
}

// requireError checks an error's form, and that its message has the words.
func requireError(t *testing.T, got answer, status int, words ...string) {
	t.Helper()
	require.Equal(t, status, got.status, got.body)
	require.True(t, strings.HasSuffix(got.body, "\n"))
	var answer map[string]string
	require.NoError(t, json.Unmarshal([]byte(got.body), &answer), got.body)
	require.Len(t, answer, 1)
	for _, word := range words {
		require.Contains(t, answer["message"], word)
	}
}

// running gives the photo's open workflow run, or "".
func (b *testBundle) running(t *testing.T, id uuid.UUID) string {
	t.Helper()
	description, err := b.api.Temporal.DescribeWorkflow(t.Context(), photo.WorkflowID(id), "")
	if err != nil || description.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return ""
	}
	return description.WorkflowExecution.RunID
}

const (
	idA = "0b5a1f7e-58c5-4b3c-9a53-0e1f6d2a7c1"
	idB = "1c6b2a8f-69d6-4c4d-8b64-1f2a7e3b8d2"
)

// uuids gives UUIDs that no other test uses: workflow ids are shared by all.
func uuids(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

func TestProcessAcceptsAndRejects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := uuids(5)
	upper := strings.ToUpper(ids[1].String())
	bare := strings.ReplaceAll(ids[2].String(), "-", "")
	sent := fmt.Sprintf(`[%q, 7, %q, "nonsense", %q, null, "{%s}", {"a":  1}, "urn:uuid:%s", true, ["x"], "", 1e400]`,
		ids[0], upper, bare, ids[3], ids[4])
	requireAnswer(t, b.post(t, "/photos/process", sent), http.StatusCreated, fmt.Sprintf(
		`{"accepted":["%s","%s","%s","{%s}","urn:uuid:%s"],"rejected":[7,"nonsense",null,{"a":1},true,["x"],"",1e400]}`+"\n",
		ids[0], upper, bare, ids[3], ids[4]))
	for _, id := range ids {
		require.NotEmpty(t, b.running(t, id), "the canonical form names the workflow")
	}
}

func TestProcessRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	none := `{"message":"None of the provided inputs could be parsed as a UUID"}` + "\n"
	requireAnswer(t, b.post(t, "/photos/process", `["x", 1]`), http.StatusBadRequest, none)
	requireAnswer(t, b.post(t, "/photos/process", `[null]`), http.StatusBadRequest, none)
	requireAnswer(t, b.post(t, "/photos/process", ` [ ] `), http.StatusCreated, `{"accepted":[],"rejected":[]}`+"\n")

	for body, word := range map[string]string{
		"":           "empty",
		" \n":        "empty",
		"{":          "not valid JSON",
		"nonsense":   "not valid JSON",
		"[] []":      "not valid JSON",
		"[\"\xff\"]": "not valid UTF-8",
		`{"a":1}`:    "must be a JSON array, not a JSON object",
		`"text"`:     "must be a JSON array, not a JSON string",
		"7":          "must be a JSON array, not a JSON number",
		"null":       "must be a JSON array, not null",
	} {
		requireError(t, b.post(t, "/photos/process", body), http.StatusBadRequest, word)
	}
}

func TestProcessLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireError(t, b.post(t, "/photos/process", "["+strings.Repeat(" ", 1<<20)+"]"), http.StatusRequestEntityTooLarge, "1048576 bytes")
	requireError(t, b.post(t, "/photos/process", "["+strings.Repeat("1,", 10_000)+"1]"), http.StatusRequestEntityTooLarge, "10001", "10000")
	requireError(t, b.post(t, "/photos/process", "["+strings.Repeat("1,", 9_999)+"1]"), http.StatusBadRequest, "None of the provided inputs")
	deep := strings.Repeat("[", 100_000)
	requireError(t, b.post(t, "/photos/process", deep), http.StatusBadRequest, "not valid JSON")
}

func TestTheSamePhotoHasOneWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuids(1)[0]
	body := fmt.Sprintf(`["%s","%s","%s"]`, id, id, strings.ToUpper(id.String()))
	requireAnswer(t, b.post(t, "/photos/process", body), http.StatusCreated,
		fmt.Sprintf(`{"accepted":["%s","%s","%s"],"rejected":[]}`+"\n", id, id, strings.ToUpper(id.String())))
	first := b.running(t, id)
	require.NotEmpty(t, first)
	require.Equal(t, http.StatusCreated, b.post(t, "/photos/process", body).status)
	require.Equal(t, first, b.running(t, id), "it still runs")

	require.NoError(t, b.api.Temporal.TerminateWorkflow(t.Context(), photo.WorkflowID(id), "", "test"))
	require.Equal(t, http.StatusCreated, b.post(t, "/photos/process", body).status)
	second := b.running(t, id)
	require.NotEmpty(t, second)
	require.NotEqual(t, first, second, "a closed one is run again")
}

func TestProcessManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := uuids(b.api.Config.StartDirectly)
	body, err := json.Marshal(ids)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, b.post(t, "/photos/process", string(body)).status)
	for _, id := range ids {
		require.NotEmpty(t, b.running(t, id))
	}
}

// TestProcessVeryMany posts what a workflow starts: the only one that is on the
// queue.
func TestProcessVeryMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := uuids(10_000)
	body, err := json.Marshal(ids)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, b.post(t, "/photos/process", string(body)).status)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	task, err := b.api.Temporal.WorkflowService().PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: "default", TaskQueue: &taskqueuepb.TaskQueue{Name: b.api.Config.TaskQueue},
	})
	require.NoError(t, err)
	require.Equal(t, "StartPhotos", task.GetWorkflowType().GetName())
	var in workflows.StartPhotosInput
	input := task.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetInput()
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(input, &in))
	require.Equal(t, photo.IDs(ids), in.Photos)
	require.Empty(t, b.running(t, ids[0]))
}

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
	requireAnswer(t, ready, http.StatusServiceUnavailable, `{"message":"Not ready","postgresql":"ok","temporal":"unreachable","thumbnails_bucket":"ok"}`+"\n")
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
	requireAnswer(t, b.get(t, "/readyz"), http.StatusServiceUnavailable, `{"message":"Not ready","postgresql":"unreachable","temporal":"ok","thumbnails_bucket":"ok"}`+"\n")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireAnswer(t, b.get(t, "/healthz"), http.StatusOK, `{"status":"ok"}`+"\n")
	requireAnswer(t, b.get(t, "/readyz"), http.StatusOK, `{"message":"Ready","postgresql":"ok","temporal":"ok","thumbnails_bucket":"ok"}`+"\n")
}

func (b *testBundle) add(t *testing.T, urls ...string) []photo.Photo {
	t.Helper()
	photos, err := b.api.DB.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	return photos
}

func TestListPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireAnswer(t, b.get(t, "/photos/pending"), http.StatusOK, "[]\n")

	for i := range 7 {
		b.add(t, fmt.Sprintf("https://photos.example/%d.jpg?a=1&b=2", i))
	}
	var seen []string
	for path := "/photos/pending?limit=3"; path != ""; {
		got := b.get(t, path)
		require.Equal(t, http.StatusOK, got.status, got.body)
		var photos []map[string]string
		require.NoError(t, json.Unmarshal([]byte(got.body), &photos))
		require.LessOrEqual(t, len(photos), 3)
		for _, p := range photos {
			require.Len(t, p, 4)
			require.Equal(t, "pending", p["status"])
			require.NotEmpty(t, p["uuid"])
			created, err := time.Parse(time.RFC3339, p["created_at"])
			require.NoError(t, err)
			require.Equal(t, time.UTC, created.Location())
			seen = append(seen, p["url"])
		}
		path = ""
		if link := got.header.Get("Link"); link != "" {
			require.True(t, strings.HasSuffix(link, `>; rel="next"`), link)
			path = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		}
	}
	require.Len(t, seen, 7)
	require.True(t, strings.HasPrefix(seen[0], "https://photos.example/0.jpg"), "oldest first")

	for _, status := range []string{"processing", "completed", "failed"} {
		requireAnswer(t, b.get(t, "/photos/"+status), http.StatusOK, "[]\n")
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "after=x", "after=2020-01-01T00:00:00Z_x"} {
		requireError(t, b.get(t, "/photos/pending?"+query), http.StatusBadRequest, query[:5])
	}
}

func TestShowPhoto(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.add(t, "https://user:hunter2@photos.example/1.jpg")[0]
	run := photo.Run{Photo: p.UUID, ID: "run", StartedAt: time.Now()}
	path := "/photos/" + p.UUID.String()

	require.NoError(t, b.api.DB.MarkProcessing(t.Context(), run))
	source := photo.SourceInfo{Bytes: 1, SHA256: strings.Repeat("0", 64), MediaType: "image/jpeg"}
	require.NoError(t, b.api.DB.PublishThumbnails(t.Context(), run, source,
		[]photo.Thumbnail{{Size: photo.Size{Width: 320, Height: 213}, Key: "k.jpg"}}))
	_, err := b.api.DB.Finish(t.Context(), run, photo.Fail(photo.SourceForbidden, "the source answered 403 Forbidden"))
	require.NoError(t, err)

	shown, err := b.api.DB.Photo(t.Context(), p.UUID)
	require.NoError(t, err)
	at := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
	requireAnswer(t, b.get(t, path), http.StatusOK, fmt.Sprintf(`{"uuid":"%s","url":"https://user:xxxxx@photos.example/1.jpg","status":"failed",`+
		`"created_at":"%s","updated_at":"%s","thumbnails":[{"uuid":"%s","width":320,"height":213,"url":"k.jpg","created_at":"%s"}],`+
		`"failure":{"code":"source_forbidden","message":"the source answered 403 Forbidden"},"workflow_id":"process-photo-%s"}`+"\n",
		p.UUID, at(shown.CreatedAt), at(shown.UpdatedAt), shown.Thumbnails[0].UUID, at(shown.Thumbnails[0].CreatedAt), p.UUID))
	require.NotContains(t, b.get(t, "/photos/failed").body, "hunter2")

	requireError(t, b.get(t, "/photos/"+uuid.NewString()), http.StatusNotFound)
	requireError(t, b.get(t, "/photos/nonsense"), http.StatusNotFound)
}

func TestAddPhotos(t *testing.T) {
	t.Parallel()
	b := setup(t)
	decode := func(got answer) (photos []struct {
		UUID        uuid.UUID
		URL, Status string
	}) {
		require.Equal(t, http.StatusCreated, got.status, got.body)
		require.NoError(t, json.Unmarshal([]byte(got.body), &photos))
		return photos
	}
	one := decode(b.post(t, "/photos", `{"url":"https://photos.example/1.jpg"}`))
	require.Len(t, one, 1)
	require.Equal(t, "pending", one[0].Status)
	require.Empty(t, b.running(t, one[0].UUID))

	two := decode(b.post(t, "/photos?process=true", `[{"url":"https://photos.example/3.jpg"},{"url":"http://photos.example/2.jpg"}]`))
	require.Len(t, two, 2)
	require.Equal(t, "https://photos.example/3.jpg", two[0].URL, "in the order of the request")
	for _, p := range two {
		require.NotEmpty(t, b.running(t, p.UUID))
	}
	require.Empty(t, decode(b.post(t, "/photos", `[]`)))

	for body, word := range map[string]string{
		`{"url":"ftp://photos.example/1.jpg"}`: "not http or https",
		`{"url":"https://"}`:                   "host",
		`{"url":""}`:                           "Photo 1",
		`{"url":7}`:                            `string "url"`,
		`{}`:                                   `string "url"`,
		`["https://photos.example/1.jpg"]`:     "Photo 1",
		`[{"url":"https://photos.example/1.jpg"},{"url":"nonsense"}]`: "Photo 2",
		`7`: "must be a JSON array",
		`{"url":"https://photos.example/` + strings.Repeat("a", 8000) + `"}`: "the limit is 8000",
		`{"url":"https://photos.example/\u0000"}`:                            "Photo 1",
	} {
		requireError(t, b.post(t, "/photos", body), http.StatusBadRequest, word)
	}
	requireError(t, b.post(t, "/photos?process=maybe", `[]`), http.StatusBadRequest, "process must be true or false")
	require.Equal(t, 3, strings.Count(b.get(t, "/photos/pending").body, `"uuid"`), "of a bad request nothing is added")
}

func TestThumbnails(t *testing.T) {
	t.Parallel()
	showsThumbnails(t, setup(t))
}

func TestThumbnailsInS3(t *testing.T) {
	server, stop, err := devstacktest.S3(t.Context())
	require.NoError(t, err)
	defer stop()
	server.Setenv(t)
	in := func(bucketURL string) option {
		return func(s *api.Server) {
			s.Thumbnails, err = bucket.Open(t.Context(), bucketURL)
			require.NoError(t, err)
		}
	}
	require.NoError(t, server.MakeBucket("thumbnails"))
	showsThumbnails(t, setup(t, in(server.BucketURL("thumbnails"))))

	path := "/thumbnails/" + uuid.NewString() + "/320x213-0123456789abcdef.jpg"
	for name, url := range map[string]string{
		"there is no such bucket": server.BucketURL("nobodys"),
		"the server is away":      server.Through("http://127.0.0.1:1").BucketURL("thumbnails"),
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, in(url))
			got := b.get(t, path)
			require.Equal(t, http.StatusServiceUnavailable, got.status)
			require.NotEmpty(t, got.header.Get("Retry-After"))
			require.Equal(t, `{"message":"The thumbnails cannot be read"}`+"\n", got.body)
			require.Contains(t, b.log.String(), "the thumbnails bucket cannot be used")
		})
	}
}

// showsThumbnails checks what the API makes of its bucket.
func showsThumbnails(t *testing.T, b *testBundle) {
	t.Helper()
	id := uuid.New()
	key := id.String() + "/320x213-0123456789abcdef.jpg"
	require.NoError(t, b.bucket.WriteAll(t.Context(), key, []byte("0123456789"), nil))
	path := "/thumbnails/" + key

	got := b.get(t, path)
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "0123456789", got.body)
	require.Equal(t, "image/jpeg", got.header.Get("Content-Type"))
	require.Equal(t, `"0123456789abcdef"`, got.header.Get("ETag"))
	require.NotEmpty(t, got.header.Get("Last-Modified"))
	require.Contains(t, got.header.Get("Cache-Control"), "immutable")
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))

	head := b.do(t, http.MethodHead, path, "")
	require.Equal(t, "10", head.header.Get("Content-Length"))
	require.Empty(t, head.body)
	part := b.do(t, http.MethodGet, path, "", "Range", "bytes=2-4")
	require.Equal(t, http.StatusPartialContent, part.status)
	require.Equal(t, "234", part.body)
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, b.do(t, http.MethodGet, path, "", "Range", "bytes=20-").status)
	parts := b.do(t, http.MethodGet, path, "", "Range", "bytes=0-1,4-5")
	require.Equal(t, http.StatusPartialContent, parts.status)
	require.Contains(t, parts.header.Get("Content-Type"), "multipart/byteranges")
	require.Equal(t, http.StatusNotModified, b.do(t, http.MethodGet, path, "", "If-None-Match", `"0123456789abcdef"`).status)
	require.Equal(t, http.StatusPreconditionFailed, b.do(t, http.MethodGet, path, "", "If-Match", `"0000000000000000"`).status)

	// A file beside the bucket, which no path may reach.
	require.NoError(t, b.bucket.WriteAll(t.Context(), "other.jpg", []byte("secret"), nil))
	for _, path := range []string{
		"/thumbnails/" + uuid.NewString() + "/320x213-0123456789abcdef.jpg",
		"/thumbnails/other.jpg", "/thumbnails/", "/thumbnails/" + id.String(),
		"/thumbnails/../other.jpg", "/thumbnails/..%2f..%2fetc%2fpasswd", "/thumbnails/%2e%2e/%2e%2e/etc/passwd",
		"/thumbnails//etc/passwd", path + "/", path + "%00", strings.Replace(path, ".jpg", ".html", 1), "/thumbnails/./" + key,
	} {
		requireError(t, b.get(t, path), http.StatusNotFound)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/", "/nonsense", "/photos/pending/", "/photos//pending"} {
		requireError(t, b.get(t, path), http.StatusNotFound)
	}
	for _, test := range []struct{ method, path, allow string }{
		{http.MethodDelete, "/photos/pending", "GET, HEAD"},
		{http.MethodGet, "/photos/process", "POST"},
		{http.MethodGet, "/photos", "POST"},
		{http.MethodPost, "/healthz", "GET, HEAD"},
		{http.MethodOptions, "/thumbnails/x", "GET, HEAD"},
	} {
		got := b.do(t, test.method, test.path, "")
		requireError(t, got, http.StatusMethodNotAllowed)
		require.Equal(t, test.allow, got.header.Get("Allow"), test.path)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const old, current = "0123456789abcdef-old", "0123456789abcdef-new"
	b := setup(t, func(s *api.Server) { s.Config.APITokens = []string{old, current} })
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer nonsense", "Basic " + current, current, "Bearer " + current + "x", "Bearer " + current[:10]} {
		for _, path := range []string{"/photos/pending", "/photos/process", "/thumbnails/x", "/nonsense", "/healthz/x"} {
			got := b.do(t, http.MethodGet, path, "", "Authorization", header)
			requireError(t, got, http.StatusUnauthorized, "bearer token")
			require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		}
	}
	for _, token := range []string{old, current} {
		require.Equal(t, http.StatusOK, b.do(t, http.MethodGet, "/photos/pending", "", "Authorization", "Bearer "+token).status)
		require.Equal(t, http.StatusOK, b.do(t, http.MethodGet, "/photos/pending", "", "Authorization", "bearer "+token).status)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Equal(t, http.StatusOK, b.get(t, path).status, "health is for all")
	}
	require.NotContains(t, b.log.String(), current)

	key := uuid.NewString() + "/320x213-0123456789abcdef.jpg"
	require.NoError(t, b.bucket.WriteAll(t.Context(), key, []byte("x"), nil))
	got := b.do(t, http.MethodGet, "/thumbnails/"+key, "", "Authorization", "Bearer "+current)
	require.Contains(t, got.header.Get("Cache-Control"), "private")
}

func TestRequestsAreLogged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/photos/pending?limit=5&token=hunter2")
	require.Contains(t, b.log.String(), "method=GET path=/photos/pending status=200")
	require.NotContains(t, b.log.String(), "hunter2")
}

func FuzzProcessBody(f *testing.F) {
	for _, seed := range []string{
		``, `[]`, `["` + idA + `1"]`, `["` + idB + `2", null, 1.5e9, {"a":[{}]}]`, `{"a":1}`, `[[[[`, "[\"\xff\"]", `["\ud800"]`, `[] x`,
		`["{` + idA + `1}","urn:uuid:` + idA + `1"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		accepted, rejected, ids, err := api.ParseProcessForTest(body)
		if err != nil {
			return
		}
		var sent []any
		require.NoError(t, json.Unmarshal(body, &sent))
		require.Len(t, sent, len(accepted)+len(rejected), "each input is either accepted or rejected")
		require.LessOrEqual(t, len(ids), len(accepted))
		for _, input := range accepted {
			var text string
			require.NoError(t, json.Unmarshal(input, &text))
			id, err := uuid.Parse(text)
			require.NoError(t, err)
			require.Contains(t, ids, id)
		}
	})
}
