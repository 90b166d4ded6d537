package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// processResult is ProcessResult in openapi.yaml. Each element is echoed as it
// was sent, in the order of the request.
type processResult struct {
	Accepted []json.RawMessage `json:"accepted"`
	Rejected []json.RawMessage `json:"rejected"`
}

// processPhotos serves POST /photos/process.
func (s *Server) processPhotos(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		s.processSelected(w, r)
		return
	}
	elements, err := s.readArray(w, r, s.Config.HTTPMaxPhotos)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, ids := partitionUUIDs(elements)
	if len(elements) > 0 && len(ids) == 0 {
		s.fail(w, r, badRequest("None of the provided inputs could be parsed as a UUID"))
		return
	}
	batch, err := s.startWorkflows(r.Context(), ids)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	setBatchLocation(w, batch)
	writeJSON(w, http.StatusCreated, result)
}

// partitionUUIDs accepts the elements that are UUIDs, in any form that
// photo.ParseUUID parses, and rejects the others. It returns each accepted UUID
// once.
func partitionUUIDs(elements []json.RawMessage) (processResult, []uuid.UUID) {
	result := processResult{Accepted: []json.RawMessage{}, Rejected: []json.RawMessage{}}
	var ids []uuid.UUID
	seen := map[uuid.UUID]bool{}
	for _, element := range elements {
		var text *string // stays nil for null
		if json.Unmarshal(element, &text) != nil || text == nil {
			result.Rejected = append(result.Rejected, element)
			continue
		}
		id, err := photo.ParseUUID(*text)
		if err != nil {
			result.Rejected = append(result.Rejected, element)
			continue
		}
		result.Accepted = append(result.Accepted, element)
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return result, ids
}

// readArray reads a request body that must be a JSON array of at most limit
// elements. It ignores the Content-Type, because curl -d sends that of a form.
func (s *Server) readArray(w http.ResponseWriter, r *http.Request, limit int) ([]json.RawMessage, error) {
	body, err := s.readBody(w, r, s.Config.HTTPMaxBodyBytes)
	if err != nil {
		return nil, err
	}
	return parseArray(body, limit)
}

// parseArray parses a JSON array of at most limit elements. It keeps no more
// than these: an element can take much more memory than its bytes.
func parseArray(body []byte, limit int) ([]json.RawMessage, error) {
	var array jsonArray
	err := json.Unmarshal(body, &array)
	notArray, isNotArray := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case isEmpty(body):
		return nil, badRequest("The request body is empty; it must be a JSON array")
	case isNotArray:
		return nil, badRequest("The request body must be a JSON array, not a JSON %s", notArray.Value)
	case err != nil:
		return nil, badRequest("The request body is not valid JSON: %s", err)
	case array.text == nil:
		return nil, badRequest("The request body must be a JSON array, not null")
	}
	return array.split(limit)
}

// jsonArray is the text of a JSON array, or nil for null.
type jsonArray struct{ text []byte }

// UnmarshalJSON keeps the text, which json.Unmarshal has found to be valid.
func (a *jsonArray) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		a.text = text
		return nil
	}
	var elements []json.RawMessage
	return json.Unmarshal(text, &elements) // nil for null, or says what the text is
}

func (a *jsonArray) split(limit int) (elements []json.RawMessage, err error) {
	decoder := json.NewDecoder(bytes.NewReader(a.text))
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("split an array: %w", err)
	}
	count := 0
	for ; decoder.More(); count++ {
		var element json.RawMessage
		if err := decoder.Decode(&element); err != nil {
			return nil, fmt.Errorf("split an array: %w", err)
		}
		if count < limit {
			elements = append(elements, element)
		}
	}
	if count > limit {
		return nil, tooLarge("The request has %d elements; the limit is %d", count, limit)
	}
	return elements, nil
}

// isEmpty is true if the body has only JSON's white space.
func isEmpty(body []byte) bool {
	for _, b := range body {
		if b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return false
		}
	}
	return true
}

// notStartedError is returned when some workflows of a request could not be
// started.
type notStartedError struct {
	started, wanted int // numbers of workflows
	photos          any // the photos that the request added; nil if it adds none
	err             error
}

func (e *notStartedError) Error() string {
	return fmt.Sprintf("%d of %d workflows were started: %s", e.started, e.wanted, e.err)
}

func (e *notStartedError) Unwrap() error { return e.err }

// temporalError is an error of Temporal's client; the request has changed
// nothing.
type temporalError struct{ err error }

func (e *temporalError) Error() string { return e.err.Error() }
func (e *temporalError) Unwrap() error { return e.err }

// explainTemporalError returns what an error of Temporal's client means, in words
// for the API's client.
func explainTemporalError(err error) string {
	_, noNamespace := errors.AsType[*serviceerror.NamespaceNotFound](err)
	status := serviceerror.ToStatus(err)
	tooLarge := strings.Contains(status.Message(), "larger than max") // gRPC's own limit
	switch code := status.Code(); {
	case noNamespace:
		return "Temporal does not have the namespace"
	case code == codes.PermissionDenied, code == codes.Unauthenticated:
		return "Temporal denies access"
	case code == codes.InvalidArgument, tooLarge:
		return "Temporal refuses the request, and the server's log says why"
	case code == codes.ResourceExhausted:
		return "Temporal limits the rate of requests"
	default:
		return "Temporal cannot be reached"
	}
}

// toBody returns the response: NotStarted in openapi.yaml.
func (e *notStartedError) toBody() any {
	message := fmt.Sprintf("%s: %d of %d workflows were started. ", explainTemporalError(e.err), e.started, e.wanted)
	if e.photos != nil {
		message += "The photos have been added; post their UUIDs to /photos/process."
	} else {
		message += "Posting the same again is safe."
	}
	return struct {
		Message string `json:"message"`
		Photos  any    `json:"photos,omitempty"`
	}{message, e.photos}
}

// startWorkflows starts one workflow for each photo, StartConcurrency at a
// time, and stops at the first error. A photo whose workflow is running counts
// as started. For more than StartDirectly photos it starts one StartPhotos
// workflow, which starts the photos' workflows: the response needs to wait for a
// single start only. It returns the batch of several photos; zero if there is none.
func (s *Server) startWorkflows(ctx context.Context, ids []uuid.UUID) (batch uuid.UUID, err error) {
	if len(ids) > 1 {
		batch = uuid.New()
	}
	if batch != uuid.Nil && len(ids) > s.Config.StartDirectly {
		if _, err := s.starter().StartBatch(ctx, batch, ids); err != nil {
			return uuid.Nil, &notStartedError{started: 0, wanted: len(ids), err: err}
		}
		// The workflow creates the batch, too, but the client may ask for it at once.
		s.tryBatch(ctx, batchIsLate, func(ctx context.Context) error { return s.DB.CreateBatch(ctx, batch, ids) })
		return batch, nil
	}
	photos := make([]postgres.BatchPhoto, len(ids))
	for i, id := range ids {
		photos[i].Photo = id
	}
	if batch != uuid.Nil && !s.tryBatch(ctx, batchIsMissing, func(ctx context.Context) error { return s.DB.ReadOldRuns(ctx, photos) }) {
		batch = uuid.Nil
	}
	if err := s.startDirectly(ctx, photos); err != nil {
		return uuid.Nil, err
	}
	if batch != uuid.Nil && !s.tryBatch(ctx, batchIsMissing, func(ctx context.Context) error {
		if err := s.DB.CreateStartedBatch(ctx, batch, photos); err != nil || s.Config.WebhookURL == "" {
			return err
		}
		return s.starter().StartNotifyBatch(ctx, batch)
	}) {
		batch = uuid.Nil
	}
	return batch, nil
}

// startDirectly starts the workflows of the photos, and sets their runs.
func (s *Server) startDirectly(ctx context.Context, photos []postgres.BatchPhoto) error {
	start := s.starter()
	var started atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.Config.StartConcurrency)
	for i := range photos {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			run, err := start.StartPhoto(ctx, photos[i].Photo)
			if err != nil {
				return err
			}
			photos[i].Run = run.GetRunID()
			s.Log.DebugContext(telemetry.WithAttrs(ctx, telemetry.PhotoAttrs(photos[i].Photo, run.GetRunID())...), "photo is being processed")
			started.Add(1)
			return nil
		})
	}
	err := group.Wait()
	if err == nil && int(started.Load()) < len(photos) {
		err = ctx.Err()
	}
	if err != nil {
		return &notStartedError{started: int(started.Load()), wanted: len(photos), err: err}
	}
	return nil
}

func (s *Server) starter() starter.Starter {
	return starter.Starter{Temporal: s.Temporal, TaskQueue: s.Config.TaskQueue}
}

// batchTimeout bounds what PostgreSQL may add to the time of a request that
// needs it for the batch only.
const batchTimeout = 2 * time.Second

// The consequences of a failed access to a batch, for the log.
const (
	batchIsMissing = "photos are processed without a batch"
	batchIsLate    = "a batch does not exist until its workflow creates it"
)

// tryBatch reads or writes a batch. If it cannot, it logs the consequence and
// returns false: processing photos does not need PostgreSQL, so that the request
// succeeds. It goes on if the client has gone: photos may have been started.
func (s *Server) tryBatch(ctx context.Context, consequence string, do func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	err := do(ctx)
	if err != nil {
		s.outageLines.Do(consequence+postgres.SQLState(err), func() { s.Log.ErrorContext(ctx, consequence, "error", err) })
	}
	return err == nil
}
