package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/photo-processor/photo-processor/internal/client/openapi"
)

const (
	// requestTimeout is longer than the API itself allows a request.
	requestTimeout = 3 * time.Minute
	// maxResponseBytes bounds the part of a response that is read; a page of
	// 1000 photos with long URLs is smaller.
	maxResponseBytes = 16 << 20
)

// Error is a response of the API that is not a success.
type Error struct {
	API     string // its URL
	Status  int    // of HTTP
	Message string

	body []byte
}

func (e *Error) Error() string {
	return fmt.Sprintf("the API at %s answered %d: %s", e.API, e.Status, e.Message)
}

// ErrUnreachable is returned when the API cannot be reached, or when the
// connection ends before its response.
var ErrUnreachable = errors.New("the API cannot be reached")

// IsNotFound reports whether the API answered that there is no such photo or
// batch.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// unexpected is the error for a success that api/openapi.yaml does not have.
func unexpected(resp *http.Response) error {
	return fmt.Errorf("%s %s: unexpected response %s with Content-Type %q; is this an API of photo-processor?",
		resp.Request.Method, resp.Request.URL.Path, resp.Status, resp.Header.Get("Content-Type"))
}

// bodyOf returns the parsed body of a response. It is nil unless the response is
// the success that api/openapi.yaml has.
func bodyOf[T any](body *T, resp *http.Response) (value T, err error) {
	if body == nil {
		return value, unexpected(resp)
	}
	return *body, nil
}

// transport sends the requests of the generated client. It adds the token,
// bounds the response, and turns a response that is not a success into an
// *Error.
type transport struct {
	baseURL, token string
	http           http.Client
}

func newTransport(baseURL, token string) *transport {
	return &transport{baseURL: baseURL, token: token, http: http.Client{
		Timeout: requestTimeout, Transport: http.DefaultTransport.(*http.Transport).Clone(),
	}}
}

// Do implements openapi.HttpRequestDoer.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxResponseBytes), resp.Body}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: read its response: %w", ErrUnreachable, err)
	}
	var refusal openapi.Error
	if json.Unmarshal(body, &refusal) != nil || refusal.Message == "" {
		refusal.Message = http.StatusText(resp.StatusCode)
	}
	return nil, &Error{API: t.baseURL, Status: resp.StatusCode, Message: refusal.Message, body: body}
}
