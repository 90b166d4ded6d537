package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	workflowpb "go.temporal.io/api/workflow/v1"
	temporalclient "go.temporal.io/sdk/client"

	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// auditor checks the final state from outside. It knows the schema, the layout of
// the bucket, the HTTP contract and the workflows' IDs, and shares no code with the
// program.
type auditor struct {
	db        *pgx.Conn
	temporal  temporalclient.Client
	api       string // its URL
	bucket    string // directory
	sources   string // directory of the workers' source caches
	logs      string // directory
	boxes     []int
	photos    map[uuid.UUID]expected
	batches   int            // accepted requests whose photos a workflow starts
	locations map[string]int // numbers of photos by the paths of their batches
	closeTime time.Duration  // for workflows to close and files to be removed

	repeats    map[uuid.UUID]int // repeated attempts at the photo's page of a batch
	violations []string
}

// expected is what the auditor knows about a UUID from the clients and the source.
type expected struct {
	row      bool // there is a photo with this UUID
	deleted  bool // there was one
	posts    int  // that may have reached the API
	accepted bool

	versions []version // of the source; the thumbnails must belong to one of them

	// fails is the code with which the photo must fail; "" if it must be completed.
	// excuses are further codes with which it may fail.
	fails   string
	excuses []string
}

// photoRow is a photo in the database.
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

// audit returns one sentence per violation.
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
	if err := a.auditBatches(ctx); err != nil {
		return nil, fmt.Errorf("audit batches: %w", err)
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

// auditBatches checks that each batch is done and has counted each of its photos.
func (a *auditor) auditBatches(ctx context.Context) error {
	for path, photos := range a.locations {
		status, body, err := a.get(ctx, path)
		if err != nil {
			return err
		}
		var b struct {
			Total, Completed, Failed int
			Done                     bool
		}
		if err := json.Unmarshal(body, &b); err != nil {
			return err
		}
		if status != http.StatusOK || !b.Done || b.Total != photos || b.Completed+b.Failed != photos {
			a.violation("batch %s of %d photos: %d %s", path, photos, status, body)
		}
	}
	return nil
}

func (a *auditor) violation(format string, args ...any) {
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
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

// rows reads all photos of the database.
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

// auditFiles checks for files that no row names, and for sources in caches. A worker
// that was suspended may still remove its files for a while.
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
			if errors.Is(err, fs.ErrNotExist) { // not created yet, or just removed
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

// unwanted matches log lines about defects.
var unwanted = regexp.MustCompile(`panic|DATA RACE|fatal error|code=internal|TMPRL1100|internal error|reported an internal failure|sent more than`)

// auditLogs checks the logs of the API and the workers for defects.
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
				break // one is enough; others follow from it
			}
		}
	}
	return nil
}

func describe(e *workflowpb.WorkflowExecutionInfo) string {
	return fmt.Sprintf("workflow %s (run %s): is %s", e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId(), e.GetStatus())
}
