package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	internalError = "Internal error; the server's log has the details"
	// retryAfter is how many seconds a client is asked to wait for PostgreSQL,
	// Temporal or the bucket: about what one of them needs to restart.
	retryAfter = 5
)

// errBucketUnavailable says that the thumbnails bucket could not be read.
var errBucketUnavailable = errors.New("the thumbnails bucket cannot be used")

// clientError is an error that the client made, and may be told about.
type clientError struct {
	status  int
	message string
}

func (e *clientError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &clientError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) error {
	return &clientError{http.StatusRequestEntityTooLarge, fmt.Sprintf(format, args...)}
}

// fail answers a request that could not be served. It is the one table from
// errors to answers: what the client needs to know goes into the answer, and
// what only the operator may know goes into the log.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooManyBytes *http.MaxBytesError
	mistake, isMistake := errors.AsType[*clientError](err)
	notStarted, isNotStarted := errors.AsType[*notStartedError](err)
	switch {
	case isMistake:
		writeError(w, mistake.status, mistake.message)
		return
	case errors.As(err, &tooManyBytes):
		writeError(w, http.StatusRequestEntityTooLarge,
			fmt.Sprintf("The request body is larger than the limit of %d bytes", tooManyBytes.Limit))
		return
	case errors.Is(err, photo.ErrNotFound):
		writeError(w, http.StatusNotFound, "There is no photo with this UUID")
		return
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		return // nobody is there to answer
	case isNotStarted:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		writeJSON(w, http.StatusServiceUnavailable, notStarted.answer())
	case errors.Is(err, postgres.ErrUnavailable):
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		writeError(w, http.StatusServiceUnavailable, "The database cannot be reached")
	case errors.Is(err, errBucketUnavailable):
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		writeError(w, http.StatusServiceUnavailable, "The thumbnails cannot be read")
	default:
		writeError(w, http.StatusInternalServerError, internalError)
	}
	s.Log.ErrorContext(telemetry.WithAttrs(r.Context(), *subject(r)...), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
}

type errorAnswer struct {
	Message string `json:"message"`
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, errorAnswer{message})
}

// writeJSON answers with JSON and a trailing newline, which keeps a terminal's
// prompt off the answer.
func writeJSON(w http.ResponseWriter, status int, answer any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // URLs are read by people
	if err := encoder.Encode(answer); err != nil {
		panic(err) // an answer of ours that cannot be written as JSON is a defect
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a client that is gone needs no answer
}
