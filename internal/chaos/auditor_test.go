package chaos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	temporalclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// auditor looks from outside whether all is as it should be, when nothing is
// under way any more. It knows the schema, the layout of the bucket, the HTTP
// contract and the names of workflows, and shares no code with what made them.
type auditor struct {
	db        *pgx.Conn
	temporal  temporalclient.Client
	api       string // its URL
	bucket    string // directory
	sources   string // directory of the workers' source caches
	logs      string // directory
	boxes     []int
	photos    map[uuid.UUID]expected
	batches   int           // that were accepted to be started by a workflow
	closeTime time.Duration // that workflows may take to close, and files to go

	repeats    map[uuid.UUID]int // how often a batch may have started a photo again
	violations []string
}

// expected is what the auditor knows of a UUID from those who posted it, and from
// the source.
type expected struct {
	row      bool // there is a photo with this UUID
	posts    int  // that the API may have seen
	accepted bool

	versions []version // of the source: its thumbnails must be of one of them

	// fails is the code with which the photo must fail; "" if it must be
	// completed. excuses are other codes with which it may fail.
	fails   string
	excuses []string
}

// photoRow is what the database knows.
type photoRow struct {
	status  string
	code    string
	runID   string
	updated time.Time
	thumbs  []thumbRow
}

type thumbRow struct {
	width, height int
	key           string
}

// run is one execution of a photo's workflow.
type run struct {
	id      string
	status  enumspb.WorkflowExecutionStatus
	started time.Time
}

// audit gives what is wrong, one sentence for each violation.
func (a *auditor) audit(ctx context.Context) ([]string, error) {
	a.violations = nil
	runs, err := a.auditWorkflows(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit workflows: %w", err)
	}
	if a.repeats, err = a.repeatedStarts(ctx); err != nil {
		return nil, fmt.Errorf("audit batches: %w", err)
	}
	rows, err := a.rows(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit rows: %w", err)
	}
	named := map[string]bool{} // files that a row names
	for id, want := range a.photos {
		row, ok := rows[id]
		if ok != want.row {
			a.violation("photo %s: has a row: %t", id, ok)
		}
		for _, thumb := range row.thumbs {
			named[thumb.key] = true
		}
		if err := a.auditPhoto(ctx, id, want, row, runs[id]); err != nil {
			return nil, fmt.Errorf("audit photo %s: %w", id, err)
		}
	}
	for id := range rows {
		if _, ok := a.photos[id]; !ok {
			a.violation("photo %s: nobody has added it", id)
		}
	}
	for id := range runs {
		if _, ok := a.photos[id]; !ok {
			a.violation("photo %s: nobody has posted it, but it has a run", id)
		}
	}
	if err := a.auditFiles(ctx, named); err != nil {
		return nil, fmt.Errorf("audit files: %w", err)
	}
	if err := a.auditLogs(); err != nil {
		return nil, fmt.Errorf("audit logs: %w", err)
	}
	slices.Sort(a.violations)
	return a.violations, nil
}

func (a *auditor) violation(format string, args ...any) {
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
}

// auditPhoto holds a photo's row, files, runs, and what the API says of it
// against each other, and against what its source allows.
func (a *auditor) auditPhoto(ctx context.Context, id uuid.UUID, want expected, row photoRow, runs []run) error {
	if len(runs) > want.posts+a.repeats[id] {
		a.violation("photo %s (has a row: %t): %d runs for %d posts, and %d repeated pages%s",
			id, want.row, len(runs), want.posts, a.repeats[id], a.whoStarted(ctx, id, runs))
	}
	if !want.accepted {
		if want.posts == 0 && row.status != "pending" {
			a.violation("photo %s: is %s, but was never posted", id, row.status)
		}
		for _, thumb := range row.thumbs {
			a.violation("photo %s: has a row for the thumbnail %s, but was never accepted", id, thumb.key)
		}
		return nil
	}
	if len(runs) == 0 {
		a.violation("photo %s: was accepted, but has no run", id)
		return nil
	}
	last := runs[len(runs)-1]
	lastCode, err := a.errorType(ctx, id, last)
	if err != nil {
		return err
	}
	if !want.row {
		if last.status != enumspb.WORKFLOW_EXECUTION_STATUS_FAILED || lastCode != "PhotoNotFound" {
			a.violation("photo %s: there is none, but its workflow is %s %s", id, last.status, lastCode)
		}
		return nil
	}

	switch {
	case row.status == "completed" && want.fails != "":
		a.violation("photo %s: is completed, but must fail with %s", id, want.fails)
	case row.status == "failed" && row.code != want.fails && !slices.Contains(want.excuses, row.code):
		a.violation("photo %s: has failed with %s, for which there is no reason", id, row.code)
	case row.status != "completed" && row.status != "failed":
		a.violation("photo %s: has no final status: it is %s", id, row.status)
	}
	if row.runID != last.id {
		a.violation("photo %s: is owned by run %s, but its last is %s", id, row.runID, last.id)
	}
	if wantRun := map[string]enumspb.WorkflowExecutionStatus{
		"completed": enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, "failed": enumspb.WORKFLOW_EXECUTION_STATUS_FAILED,
	}[row.status]; last.status != wantRun || lastCode != row.code {
		a.violation("photo %s: is %s %s, but its last run is %s %s", id, row.status, row.code, last.status, lastCode)
	}

	// A run that fails leaves the thumbnails of the last good one.
	wasCompleted := slices.ContainsFunc(runs, func(r run) bool { return r.status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED })
	wantThumbs := 0
	if wasCompleted {
		wantThumbs = len(a.boxes)
	}
	if len(row.thumbs) != wantThumbs {
		a.violation("photo %s: is %s and has %d rows of thumbnails, not %d", id, row.status, len(row.thumbs), wantThumbs)
	}
	if wasCompleted {
		a.auditThumbnails(ctx, id, want, row)
	}
	return a.auditAnswer(ctx, id, row)
}

// whoStarted tells of each run when it began, and by whom.
func (a *auditor) whoStarted(ctx context.Context, id uuid.UUID, runs []run) string {
	var text strings.Builder
	for _, r := range runs {
		fmt.Fprintf(&text, "\n\t%s run %s, %s", r.started.Format(time.StampMilli), r.id, r.status)
		first, err := a.temporal.GetWorkflowHistory(ctx, "process-photo-"+id.String(), r.id, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
		if err != nil {
			fmt.Fprintf(&text, ": %s", err)
			continue
		}
		began := first.GetWorkflowExecutionStartedEventAttributes()
		fmt.Fprintf(&text, ", started by %s with priority %d", began.GetIdentity(), began.GetPriority().GetPriorityKey())
	}
	return text.String()
}

// auditThumbnails holds the rows against the files, and these against each of
// the versions that the source has: the likeliest counts.
func (a *auditor) auditThumbnails(ctx context.Context, id uuid.UUID, want expected, row photoRow) {
	var least []string
	for i, source := range want.versions {
		if wrong := a.thumbnailsOf(ctx, id, source, row); i == 0 || len(wrong) < len(least) {
			least = wrong
		}
	}
	a.violations = append(a.violations, least...)
}

// thumbnailsOf says what is wrong with the thumbnails if the source was this.
func (a *auditor) thumbnailsOf(ctx context.Context, id uuid.UUID, source version, row photoRow) (wrong []string) {
	for i, thumb := range row.thumbs { // the smallest first, as the boxes
		violation := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("photo %s: thumbnail %s: ", id, thumb.key)+fmt.Sprintf(format, args...))
		}
		if !strings.HasPrefix(thumb.key, id.String()+"/") {
			violation("its key is not the photo's")
		}
		content, err := os.ReadFile(filepath.Join(a.bucket, filepath.FromSlash(thumb.key)))
		if err != nil {
			violation("has a row, but no file: %s", err)
			continue
		}
		picture, err := jpeg.Decode(bytes.NewReader(content))
		if err != nil {
			violation("cannot be decoded: %s", err)
			continue
		}
		if size := picture.Bounds().Size(); size != image.Pt(thumb.width, thumb.height) {
			violation("is %dx%d, but its row says %dx%d", size.X, size.Y, thumb.width, thumb.height)
		}
		if i < len(a.boxes) {
			scale := float64(a.boxes[i]) / float64(max(source.width, source.height))
			if math.Abs(float64(thumb.width)-scale*float64(source.width)) > 1 || math.Abs(float64(thumb.height)-scale*float64(source.height)) > 1 {
				violation("its row says %dx%d, which a source of %dx%d does not give", thumb.width, thumb.height, source.width, source.height)
			}
		}
		if !sameColour(picture, source.colour) {
			violation("shows another photo")
		}
		digest := sha256.Sum256(content)
		if !strings.Contains(thumb.key, "-"+hex.EncodeToString(digest[:8])+".") {
			violation("is not the content that its key names")
		}
		status, served, err := a.get(ctx, "/thumbnails/"+thumb.key)
		if err != nil || status != http.StatusOK || !bytes.Equal(served, content) {
			violation("the API serves something else: %d, %d bytes, %v", status, len(served), err)
		}
	}
	return wrong
}

// sameColour allows for what JPEG rounds.
func sameColour(picture image.Image, want color.YCbCr) bool {
	middle := picture.Bounds().Size().Div(2)
	got, ok := color.YCbCrModel.Convert(picture.At(middle.X, middle.Y)).(color.YCbCr)
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) <= 4 }
	return ok && near(got.Y, want.Y) && near(got.Cb, want.Cb) && near(got.Cr, want.Cr)
}

// auditAnswer holds what the API says of the photo against the database.
func (a *auditor) auditAnswer(ctx context.Context, id uuid.UUID, row photoRow) error {
	status, body, err := a.get(ctx, "/photos/"+id.String())
	if err != nil {
		return err
	}
	var shown struct {
		Status     string
		Thumbnails []struct {
			Width, Height int
			URL           string
		}
		Failure *struct{ Code string }
	}
	if err := json.Unmarshal(body, &shown); err != nil {
		return fmt.Errorf("the API's answer %d: %w", status, err)
	}
	code := ""
	if shown.Failure != nil {
		code = shown.Failure.Code
	}
	var thumbs []thumbRow
	for _, t := range shown.Thumbnails {
		thumbs = append(thumbs, thumbRow{t.Width, t.Height, t.URL})
	}
	if shown.Status != row.status || code != row.code || !slices.Equal(thumbs, row.thumbs) {
		a.violation("photo %s: the API shows something else than the database has: %s", id, body)
	}
	return nil
}

func (a *auditor) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.api+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := devstacktest.HTTPClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// rows reads all that the database has.
func (a *auditor) rows(ctx context.Context) (map[uuid.UUID]photoRow, error) {
	photos := map[uuid.UUID]photoRow{}
	rows, err := a.db.Query(ctx, `SELECT uuid, status::text, coalesce(failure_code, ''), coalesce(run_id, ''), updated_at FROM photos`)
	if err != nil {
		return nil, err
	}
	var id uuid.UUID
	var row photoRow
	if _, err := pgx.ForEachRow(rows, []any{&id, &row.status, &row.code, &row.runID, &row.updated}, func() error {
		photos[id] = row
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = a.db.Query(ctx, `SELECT photo_uuid, width, height, url FROM photo_thumbnails ORDER BY photo_uuid, width, height`)
	if err != nil {
		return nil, err
	}
	var thumb thumbRow
	_, err = pgx.ForEachRow(rows, []any{&id, &thumb.width, &thumb.height, &thumb.key}, func() error {
		row := photos[id]
		row.thumbs = append(row.thumbs, thumb)
		photos[id] = row
		return nil
	})
	return photos, err
}

// auditFiles looks for files that no row names, and for sources that were left.
// A worker that was thought lost may still be about to remove what it has made in
// vain.
func (a *auditor) auditFiles(ctx context.Context, named map[string]bool) error {
	for deadline := time.Now().Add(a.closeTime); ; {
		left, err := a.leftFiles(named)
		if err != nil || len(left) == 0 || time.Now().After(deadline) {
			a.violations = append(a.violations, left...)
			return err
		}
		if err := waitUntil(ctx, time.Now().Add(100*time.Millisecond)); err != nil {
			return err
		}
	}
}

func (a *auditor) leftFiles(named map[string]bool) (left []string, err error) {
	files := func(dir string, each func(key string)) error {
		return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // not made yet, or just removed
				return nil
			}
			if err != nil || entry.IsDir() {
				return err
			}
			key, err := filepath.Rel(dir, path)
			each(filepath.ToSlash(key))
			return err
		})
	}
	return left, errors.Join(
		files(a.bucket, func(key string) {
			if !named[key] {
				left = append(left, fmt.Sprintf("file %s: no row names it", key))
			}
		}),
		files(a.sources, func(key string) { left = append(left, fmt.Sprintf("source %s: was left over", key)) }),
	)
}

// unwanted are words of logs that tell of a defect, whatever became of it.
var unwanted = regexp.MustCompile(`panic|DATA RACE|fatal error|code=internal|TMPRL1100|internal error|reported an internal failure|sent more than`)

// auditLogs looks for what the API and the workers should never have to say.
func (a *auditor) auditLogs() error {
	logs, err := filepath.Glob(filepath.Join(a.logs, "*.log*"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		name := filepath.Base(path)
		if !strings.HasPrefix(name, "api") && !strings.HasPrefix(name, "worker") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(string(content), "\n")
		for i, line := range lines {
			if unwanted.MatchString(line) {
				end := i + 1
				if strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic") || strings.HasPrefix(line, "fatal") {
					end = min(i+60, len(lines)) // the stacks
				}
				a.violation("log %s: %s", name, strings.Join(lines[i:end], "\n\t"))
				break // one is enough, and others follow from it
			}
		}
	}
	return nil
}

// auditWorkflows waits until no workflow of photos is open, and gives the runs of
// each photo, the oldest first.
func (a *auditor) auditWorkflows(ctx context.Context) (map[uuid.UUID][]run, error) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(a.closeTime); ; {
		runs, open, err := a.workflows(ctx)
		if err == nil && len(open) == 0 {
			return runs, nil
		}
		if time.Now().After(deadline) {
			for _, what := range open {
				a.violation("%s", what)
			}
			return runs, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// workflows lists the runs of each photo, and says what is open. The list may
// lag behind, what a workflow says of itself does not: where they differ it is
// open, too.
func (a *auditor) workflows(ctx context.Context) (runs map[uuid.UUID][]run, open []string, err error) {
	runs = map[uuid.UUID][]run{}
	batches := 0
	executions, err := a.list(ctx, "WorkflowType IN ('ProcessPhoto', 'StartPhotos')")
	if err != nil {
		return nil, nil, err
	}
	for _, execution := range executions {
		if execution.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			open = append(open, describe(execution))
		}
		if execution.GetType().GetName() == "StartPhotos" {
			batches++
		}
		text, ok := strings.CutPrefix(execution.GetExecution().GetWorkflowId(), "process-photo-")
		if id, err := uuid.Parse(text); ok && err == nil {
			runs[id] = append(runs[id], run{execution.GetExecution().GetRunId(), execution.GetStatus(), execution.GetStartTime().AsTime()})
		}
	}
	if batches < a.batches {
		open = append(open, fmt.Sprintf("workflows start-photos-…: %d posts were accepted, but there are %d", a.batches, batches))
	}
	for id, want := range a.photos {
		slices.SortFunc(runs[id], func(a, b run) int { return a.started.Compare(b.started) })
		if !want.accepted {
			continue
		}
		described, err := a.temporal.DescribeWorkflowExecution(ctx, "process-photo-"+id.String(), "")
		if err != nil {
			open = append(open, fmt.Sprintf("workflow process-photo-%s: was accepted, but cannot be seen: %s", id, err))
			continue
		}
		execution := described.GetWorkflowExecutionInfo()
		if execution.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			open = append(open, describe(execution))
		} else if !slices.ContainsFunc(runs[id], func(r run) bool {
			return r.id == execution.GetExecution().GetRunId() && r.status == execution.GetStatus()
		}) {
			open = append(open, describe(execution)+" in its history, but not in the list of workflows")
		}
	}
	slices.Sort(open)
	return runs, slices.Compact(open), nil
}

// repeatedStarts returns how many attempts at starting each photo were repeated: an
// attempt at a page that fails, or is lost, may have started photos that the next
// starts again.
func (a *auditor) repeatedStarts(ctx context.Context) (map[uuid.UUID]int, error) {
	executions, err := a.list(ctx, "WorkflowType = 'StartPhotos'")
	if err != nil {
		return nil, err
	}
	repeats := map[uuid.UUID]int{}
	for _, execution := range executions {
		var events []*historypb.HistoryEvent
		history := a.temporal.GetWorkflowHistory(ctx, execution.GetExecution().GetWorkflowId(), execution.GetExecution().GetRunId(),
			false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for history.HasNext() {
			event, err := history.Next()
			if err != nil {
				return nil, err
			}
			events = append(events, event)
		}
		if err := countRepeats(events, repeats); err != nil {
			return nil, err
		}
	}
	return repeats, nil
}

// list returns all the workflows that the query selects.
func (a *auditor) list(ctx context.Context, query string) (executions []*workflowpb.WorkflowExecutionInfo, err error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: query}
	for {
		page, err := a.temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, err
		}
		executions = append(executions, page.GetExecutions()...)
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return executions, nil
		}
	}
}

// countRepeats adds those of one batch's history.
func countRepeats(events []*historypb.HistoryEvent, repeats map[uuid.UUID]int) error {
	pages := map[int64][]byte{} // UUIDs of 16 bytes, by the event that scheduled them
	for _, event := range events {
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			var input struct{ Photos []byte } // in base64
			if err := json.Unmarshal(scheduled.GetInput().GetPayloads()[0].GetData(), &input); err != nil {
				return err
			}
			pages[event.GetEventId()] = input.Photos
		}
		if started := event.GetActivityTaskStartedEventAttributes(); started != nil {
			for id := range slices.Chunk(pages[started.GetScheduledEventId()], 16) {
				repeats[uuid.UUID(id)] += int(started.GetAttempt()) - 1
			}
		}
	}
	return nil
}

func describe(e *workflowpb.WorkflowExecutionInfo) string {
	return fmt.Sprintf("workflow %s (run %s): is %s", e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId(), e.GetStatus())
}

// errorType gives the type of the error with which the run has failed.
func (a *auditor) errorType(ctx context.Context, id uuid.UUID, r run) (string, error) {
	if r.status != enumspb.WORKFLOW_EXECUTION_STATUS_FAILED {
		return "", nil
	}
	err := a.temporal.GetWorkflow(ctx, "process-photo-"+id.String(), r.id).Get(ctx, nil)
	if failed := (*temporal.ApplicationError)(nil); errors.As(err, &failed) {
		return failed.Type(), nil
	}
	return "", fmt.Errorf("run %s has failed with %w", r.id, err)
}
