package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/telemetry"
)

const (
	internalError = "Internal error; the server's log has the details"
	// retryAfter is the Retry-After header of a 503, in seconds: about what
	// PostgreSQL, Temporal or the bucket needs to restart.
	retryAfter = 5
)

// statusClientClosedRequest is nginx's status of a request that the client gave
// up.
const statusClientClosedRequest = 499

// errStopping is the cause why the requests' contexts end when the server stops.
var errStopping = errors.New("the server stops")

// errBucketUnavailable is returned when the thumbnails bucket cannot be read.
var errBucketUnavailable = errors.New("the thumbnails bucket cannot be used")

// clientError is a mistake in the request. The client sees its message.
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

// fail writes the response to a request that failed, with the HTTP status for
// the error. The response has a message for the client; details for the
// operator go to the log only.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooManyBytes *http.MaxBytesError
	unavailable := func(message string) {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		writeError(w, http.StatusServiceUnavailable, message)
	}
	mistake, isMistake := errors.AsType[*clientError](err)
	notStarted, isNotStarted := errors.AsType[*notStartedError](err)
	fromTemporal, isFromTemporal := errors.AsType[*temporalError](err)
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
	case errors.Is(err, postgres.ErrNoBatch):
		writeError(w, http.StatusNotFound, "There is no batch with this UUID")
		return
	case errors.Is(context.Cause(r.Context()), context.Canceled):
		// The client has closed the connection, and gets no response. The log
		// and the metrics get nginx's status for this.
		writeError(w, statusClientClosedRequest, "The client has closed the connection")
		return
	case isNotStarted:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		writeJSON(w, http.StatusServiceUnavailable, notStarted.toBody())
	case isFromTemporal:
		unavailable(explainTemporalError(fromTemporal.err))
	case errors.Is(context.Cause(r.Context()), errStopping):
		unavailable("The server is stopping")
	case errors.Is(err, errTooManyWatchers):
		unavailable(fmt.Sprintf("Events are watched by %d clients; the limit is %d", s.Config.HTTPMaxWatchers, s.Config.HTTPMaxWatchers))
	case errors.Is(err, errNoMemory):
		unavailable(fmt.Sprintf("Other requests take all of the %d bytes for request bodies and lists", s.Config.HTTPMaxMemory))
	case errors.Is(err, postgres.ErrUnavailable):
		unavailable("The database cannot be reached")
	case errors.Is(err, errBucketUnavailable):
		unavailable("The thumbnails cannot be read")
	case errors.Is(err, context.DeadlineExceeded):
		unavailable(fmt.Sprintf("The request took longer than the limit of %s", s.Config.HTTPTimeout))
	default:
		writeError(w, http.StatusInternalServerError, internalError)
	}
	log := func() {
		s.Log.ErrorContext(telemetry.WithAttrs(r.Context(), *photoLogAttrs(r)...), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	switch { // an outage fails every request, which the line "request" shows by its status
	case errors.Is(err, postgres.ErrUnavailable):
		s.outageLines.Do("postgresql"+postgres.SQLState(err), log)
	case errors.Is(err, errBucketUnavailable):
		s.outageLines.Do("thumbnails_bucket"+gcerrors.Code(err).String(), log)
	case isNotStarted, isFromTemporal:
		s.outageLines.Do("temporal", log)
	default:
		log()
	}
}

type errorBody struct {
	Message string `json:"message"`
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, errorBody{message})
}

// writeJSON writes a JSON response. It ends with a newline, so that the prompt
// of a terminal starts on a line of its own.
func writeJSON(w http.ResponseWriter, status int, value any) {
	body := encodeJSON(value)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // photos change at any time
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client has closed the connection
}

// encodeJSON returns the value in JSON, with a newline at the end.
func encodeJSON(value any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // keeps URLs readable
	if err := encoder.Encode(value); err != nil {
		panic(err) // every response type can be encoded
	}
	return text.Bytes()
}
