package chaos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
)

// auditPhoto compares a photo's row, files, runs and API response with each other
// and with its source.
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
	if want.deleted { // its runs may have ended in any way
		status, body, err := a.get(ctx, "/photos/"+id.String())
		if err == nil && status != http.StatusNotFound {
			a.violation("photo %s: was deleted, but the API answers %d %s", id, status, body)
		}
		return err
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

	// A failed run keeps the thumbnails of the last completed one.
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
	return a.auditResponse(ctx, id, row)
}

// whoStarted describes the start of each run.
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

// auditThumbnails compares the rows with the files, and the files with each version
// of the source. The version with the fewest violations counts.
func (a *auditor) auditThumbnails(ctx context.Context, id uuid.UUID, want expected, row photoRow) {
	var least []string
	for i, source := range want.versions {
		if wrong := a.compareWithVersion(ctx, id, source, row); i == 0 || len(wrong) < len(least) {
			least = wrong
		}
	}
	a.violations = append(a.violations, least...)
}

// compareWithVersion returns the violations if the source had this version.
func (a *auditor) compareWithVersion(ctx context.Context, id uuid.UUID, source version, row photoRow) (wrong []string) {
	for i, thumb := range row.thumbs { // in the order of the boxes, smallest first
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
		if !strings.Contains(thumb.key, "-"+hex.EncodeToString(digest[:8])+"-") {
			violation("is not the content that its key names")
		}
		status, served, err := a.get(ctx, "/thumbnails/"+thumb.key)
		if err != nil || status != http.StatusOK || !bytes.Equal(served, content) {
			violation("the API serves something else: %d, %d bytes, %v", status, len(served), err)
		}
	}
	return wrong
}

// sameColour tolerates JPEG's rounding.
func sameColour(picture image.Image, want color.YCbCr) bool {
	middle := picture.Bounds().Size().Div(2)
	got, ok := color.YCbCrModel.Convert(picture.At(middle.X, middle.Y)).(color.YCbCr)
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) <= 4 }
	return ok && near(got.Y, want.Y) && near(got.Cb, want.Cb) && near(got.Cr, want.Cr)
}

// auditResponse compares the API's response about the photo with the database.
func (a *auditor) auditResponse(ctx context.Context, id uuid.UUID, row photoRow) error {
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
