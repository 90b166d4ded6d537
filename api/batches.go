package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"go.temporal.io/api/serviceerror"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/workflows"
)

func toBatches(batches []photo.Batch) []photojson.Batch {
	summaries := make([]photojson.Batch, len(batches)) // an empty list is [], not null
	for i, b := range batches {
		summaries[i] = photojson.ToBatch(b)
	}
	return summaries
}

func setBatchLocation(w http.ResponseWriter, batch uuid.UUID) {
	if batch != uuid.Nil {
		w.Header().Set("Location", "/batches/"+batch.String())
	}
}

// processSelected serves POST /photos/process with query parameters.
func (s *Server) processSelected(w http.ResponseWriter, r *http.Request) {
	selection, limit, err := parseSelection(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body, err := s.readBody(w, r, s.Config.HTTPMaxBodyBytes)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !isEmpty(body) {
		s.fail(w, r, badRequest("The request has both UUIDs and the query parameter status; it may have one of them"))
		return
	}
	in := workflows.StartSelectedInput{Batch: uuid.New(), Selection: selection, Query: r.URL.Query().Encode(), Limit: limit}
	if in.Selection.CreatedBefore.IsZero() {
		in.Selection.CreatedBefore = time.Now().UTC() // otherwise new photos could keep the workflow open for ever
	}
	if _, err := s.starter().StartSelected(r.Context(), in); err != nil {
		s.fail(w, r, &temporalError{err})
		return
	}
	batch := photo.Batch{ID: in.Batch, CreatedAt: time.Now().Truncate(time.Microsecond), Query: in.Query}
	s.tryBatch(r.Context(), batchIsLate, func(ctx context.Context) error { // the workflow creates it, too, but the client may ask for it at once
		if err := s.DB.CreateEmptyBatch(ctx, batch.ID, batch.Query); err != nil {
			return err
		}
		created, err := s.DB.Batch(ctx, batch.ID)
		if err == nil {
			batch = created
		}
		return err
	})
	setBatchLocation(w, batch.ID)
	writeJSON(w, http.StatusAccepted, photojson.ToBatch(batch))
}

// parseSelection parses the query parameters that select photos. The limit is 0
// if there is none.
func parseSelection(query url.Values) (selection photo.Selection, limit int, err error) {
	if selection, err = parseFilter(query); err != nil {
		return selection, 0, err
	}
	switch status := photo.Status(query.Get("status")); status { // a code does not replace it
	case photo.Pending, photo.Completed, photo.Failed:
	default:
		return selection, 0, badRequest("status must be pending, completed or failed, not %q", status)
	}
	if text := query.Get("created_before"); text != "" {
		selection.CreatedBefore, err = time.Parse(time.RFC3339, text)
		if err != nil || selection.CreatedBefore.IsZero() { // the zero time would select photos of any age
			return selection, 0, badRequest("created_before must be a time such as 2026-01-31T12:00:00Z, not %q", text)
		}
	}
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return selection, 0, badRequest("limit must be a whole number from 1, not %q", text)
		}
	}
	return selection, limit, nil
}

// parseFilter parses the query parameters status and code. Both may be missing.
// A code without a status is one of failed photos.
func parseFilter(query url.Values) (selection photo.Selection, err error) {
	selection.Status, selection.Code = photo.Status(query.Get("status")), photo.Code(query.Get("code"))
	if selection.Status != "" && !selection.Status.IsValid() {
		return selection, badRequest("status must be pending, processing, completed or failed, not %q", selection.Status)
	}
	if selection.Code == "" {
		return selection, nil
	}
	if !slices.Contains(photo.Codes, selection.Code) {
		return selection, badRequest("code must be a failure code, not %q", selection.Code)
	}
	if selection.Status != "" && selection.Status != photo.Failed {
		return selection, badRequest("code needs status=failed: no photo that is %s has a failure", selection.Status)
	}
	selection.Status = photo.Failed
	return selection, nil
}

// listBatches serves GET /batches.
func (s *Server) listBatches(w http.ResponseWriter, r *http.Request) {
	limit, after, err := beginPage(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	batches, err := s.DB.Batches(r.Context(), after, limit+1) // the extra one shows that there is another page
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(batches) > limit {
		batches = batches[:limit]
		last := batches[limit-1]
		setNextPage(w, r.URL.Path, postgres.Cursor{CreatedAt: last.CreatedAt, UUID: last.ID}, limit, nil)
	}
	writeJSON(w, http.StatusOK, toBatches(batches))
}

// showBatch serves GET /batches/{id}.
func (s *Server) showBatch(w http.ResponseWriter, r *http.Request) {
	batch, err := s.readBatch(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, photojson.ToBatch(batch))
}

// cancelBatch serves DELETE /batches/{id}. The batch's workflow records the
// cancellation.
func (s *Server) cancelBatch(w http.ResponseWriter, r *http.Request) {
	batch, err := s.readBatch(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	err = s.Temporal.CancelWorkflow(r.Context(), photo.BatchWorkflowID(batch.ID), "")
	if _, ended := errors.AsType[*serviceerror.NotFound](err); err != nil && !ended { // it has started all photos
		s.fail(w, r, &temporalError{err})
		return
	}
	writeJSON(w, http.StatusOK, photojson.ToBatch(batch))
}

// readBatch reads the batch that the path names.
func (s *Server) readBatch(r *http.Request) (photo.Batch, error) {
	id, err := photo.ParseUUID(mux.Vars(r)["id"])
	if err != nil {
		return photo.Batch{}, postgres.ErrNoBatch
	}
	return s.DB.Batch(r.Context(), id)
}
