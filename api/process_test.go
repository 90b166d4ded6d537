package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/workflows"
)

// running returns the run ID of the photo's open workflow, or "".
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

// uuids returns n random UUIDs: all tests share Temporal, and a workflow ID
// contains the photo's UUID.
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
	requireJSON(t, b.post(t, "/photos/process", sent), http.StatusCreated, fmt.Sprintf(
		`{"accepted":["%s","%s","%s","{%s}","urn:uuid:%s"],"rejected":[7,"nonsense",null,{"a":1},true,["x"],"",1e400]}`+"\n",
		ids[0], upper, bare, ids[3], ids[4]))
	for _, id := range ids {
		require.NotEmpty(t, b.running(t, id), "the canonical form names the workflow")
	}

	id := uuid.New()
	for _, format := range []string{"!%s!", "{%s", "{%s!", "!%s}", " %s ", "}%s{", "url:uuid:%s"} {
		requireError(t, b.post(t, "/photos/process", fmt.Sprintf("["+strconv.Quote(format)+"]", id)), http.StatusBadRequest, "None of the provided inputs")
	}
	require.Empty(t, b.running(t, id))
}

func TestProcessInvalidBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	none := `{"message":"None of the provided inputs could be parsed as a UUID"}` + "\n"
	requireJSON(t, b.post(t, "/photos/process", `["x", 1]`), http.StatusBadRequest, none)
	requireJSON(t, b.post(t, "/photos/process", `[null]`), http.StatusBadRequest, none)
	requireJSON(t, b.post(t, "/photos/process", ` [ ] `), http.StatusCreated, `{"accepted":[],"rejected":[]}`+"\n")

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

func TestProcessEncodings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limit := int(b.api.Config.HTTPMaxBodyBytes)
	compress := func(text string) string {
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return compressed.String()
	}
	encoded := func(body, encoding string) response {
		return b.do(t, http.MethodPost, "/photos/process", body, "Content-Encoding", encoding)
	}
	ids := uuids(5)
	text := func(i int) string { return fmt.Sprintf(`["%s"]`, ids[i]) }
	accepted := func(got response, i int) {
		t.Helper()
		requireJSON(t, got, http.StatusCreated, fmt.Sprintf(`{"accepted":["%s"],"rejected":[]}`+"\n", ids[i]))
		require.NotEmpty(t, b.running(t, ids[i]))
	}
	const byteOrderMark = "\ufeff"
	accepted(b.post(t, "/photos/process", byteOrderMark+text(0)), 0)
	accepted(encoded(compress(text(1)), "gzip"), 1)
	accepted(encoded(compress(byteOrderMark+text(2)), "X-GZIP"), 2)
	accepted(encoded(text(3), "identity"), 3)
	requireError(t, b.post(t, "/photos/process", byteOrderMark), http.StatusBadRequest, "empty")
	requireError(t, b.post(t, "/photos/process", byteOrderMark+byteOrderMark+"[]"), http.StatusBadRequest, "not valid JSON")
	require.Equal(t, http.StatusCreated, b.do(t, http.MethodPost, "/photos",
		compress(byteOrderMark+`{"url":"https://photos.example/1.jpg"}`), "Content-Encoding", "gzip").status)

	exactly := "[" + strings.Repeat(" ", limit-2) + "]"
	require.Equal(t, http.StatusCreated, encoded(compress(exactly), "gzip").status)
	requireError(t, encoded(compress(exactly+" "), "gzip"), http.StatusRequestEntityTooLarge, fmt.Sprintf("%d bytes", limit))
	requireError(t, encoded(compress(strings.Repeat("x", 10*limit)), "gzip"), http.StatusRequestEntityTooLarge, fmt.Sprintf("%d bytes", limit))
	for _, broken := range []string{"", text(4), compress(text(4))[:30], compress(text(4)) + "x"} {
		requireError(t, encoded(broken, "gzip"), http.StatusBadRequest, "not valid gzip")
	}
	for _, encoding := range []string{"br", "deflate", "zstd", "gzip, gzip", "identity, br"} {
		for _, path := range []string{"/photos/process", "/photos"} {
			got := b.do(t, http.MethodPost, path, text(4), "Content-Encoding", encoding)
			requireError(t, got, http.StatusUnsupportedMediaType, encoding, "gzip")
			require.Equal(t, "gzip", got.header.Get("Accept-Encoding"))
		}
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, text := range []string{byteOrderMark + text(4), text(4)} {
			var body []byte
			for _, unit := range utf16.Encode([]rune(text)) {
				body = order.AppendUint16(body, unit)
			}
			requireError(t, b.post(t, "/photos/process", string(body)), http.StatusBadRequest, "UTF-16", "UTF-8")
		}
	}
	require.Empty(t, b.running(t, ids[4]))
}

func TestProcessLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireError(t, b.post(t, "/photos/process", "["+strings.Repeat(" ", 1<<20)+"]"), http.StatusRequestEntityTooLarge, "1048576 bytes")
	requireError(t, b.post(t, "/photos/process", "["+strings.Repeat("1,", 10_000)+"1]"), http.StatusRequestEntityTooLarge, "10001", "10000")
	requireError(t, b.post(t, "/photos/process", "["+strings.Repeat("1,", 9_999)+"1]"), http.StatusBadRequest, "None of the provided inputs")
	const photo = `{"url":"https://photos.example/` // of the most photos, each with a URL of 400 bytes
	url := photo + strings.Repeat("x", 400-len(photo)+len(`{"url":"`)) + `"}`
	most := "[" + strings.Repeat(url+",", 9_999) + url + "]"
	added := b.do(t, http.MethodPost, "/photos", most)
	require.Equal(t, http.StatusCreated, added.status, "%.300s", added.body)
	requireError(t, b.post(t, "/photos", most+strings.Repeat(" ", 1<<20)), http.StatusRequestEntityTooLarge, "4194304 bytes")
	deep := strings.Repeat("[", 100_000)
	requireError(t, b.post(t, "/photos/process", deep), http.StatusBadRequest, "not valid JSON")
}

func TestTheSamePhotoHasOneWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuids(1)[0]
	body := fmt.Sprintf(`["%s","%s","%s"]`, id, id, strings.ToUpper(id.String()))
	requireJSON(t, b.post(t, "/photos/process", body), http.StatusCreated,
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

// pollInput takes the next workflow task from the queue as a worker does, and
// reads the input of its workflow, which must have the type.
func (b *testBundle) pollInput(t *testing.T, workflowType string, in any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	task, err := b.api.Temporal.WorkflowService().PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: "default", TaskQueue: &taskqueuepb.TaskQueue{Name: b.api.Config.TaskQueue},
	})
	require.NoError(t, err)
	require.Equal(t, workflowType, task.GetWorkflowType().GetName())
	input := task.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetInput()
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(input, in))
}

// TestProcessThroughABatchWorkflow posts so many photos that the API starts one
// workflow, StartPhotos, which starts theirs.
func TestProcessThroughABatchWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := uuids(10_000)
	body, err := json.Marshal(ids)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, b.post(t, "/photos/process", string(body)).status)

	var in workflows.StartPhotosInput
	b.pollInput(t, "StartPhotos", &in)
	require.Equal(t, photo.IDs(ids), in.Photos)
	require.Empty(t, b.running(t, ids[0]))
}

// uuidPattern matches every form of a UUID that the contract accepts.
var uuidPattern = func() *regexp.Regexp {
	canonical := `[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}`
	return regexp.MustCompile(`\A(?:` + canonical + `|\{` + canonical + `\}|[Uu][Rr][Nn]:[Uu][Uu][Ii][Dd]:` + canonical + `|[0-9A-Fa-f]{32})\z`)
}()

// digitsOf returns the 32 hexadecimal digits of a UUID in any form.
func digitsOf(text string) string {
	text = strings.NewReplacer("-", "", "{", "", "}", "").Replace(strings.ToLower(text))
	return strings.TrimPrefix(text, "urn:uuid:")
}

func FuzzProcessBody(f *testing.F) {
	for _, seed := range []string{
		``, `[]`, `["` + idA + `1"]`, `["` + idB + `2", null, 1.5e9, {"a":[{}]}]`, `{"a":1}`, `[[[[`, "[\"\xff\"]", `["\ud800"]`, `[] x`,
		`["{` + idA + `1}","urn:uuid:` + idA + `1"]`,
		`["!` + idA + `1!","{` + idA + `1!","urn_uuid:` + idA + `1"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		accepted, rejected, ids, err := api.ParseProcessForTest(body)
		if err != nil {
			return
		}
		var sent []json.RawMessage
		require.NoError(t, json.Unmarshal(body, &sent))
		require.Len(t, sent, len(accepted)+len(rejected), "each input is either accepted or rejected")
		require.LessOrEqual(t, len(ids), len(accepted))
		wanted := map[string]bool{}
		for _, input := range accepted {
			var text string
			require.NoError(t, json.Unmarshal(input, &text))
			require.Regexp(t, uuidPattern, text)
			wanted[digitsOf(text)] = true
		}
		for _, input := range rejected {
			var value any
			if json.Unmarshal(input, &value) == nil { // it may have a number beyond float64
				if text, ok := value.(string); ok {
					require.NotRegexp(t, uuidPattern, text)
				}
			}
		}
		require.Len(t, ids, len(wanted), "each UUID once")
		for _, id := range ids {
			require.True(t, wanted[hex.EncodeToString(id[:])], "%s was not sent", id)
		}
	})
}
