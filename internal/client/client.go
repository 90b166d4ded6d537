// Package client speaks photo-processor's HTTP API, for the command line and
// for tests.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// maxAnswerBytes bounds what is read of an answer; a page of 1000 photos with
// long URLs stays below it.
const maxAnswerBytes = 16 << 20

// Client is a client of one API.
type Client struct {
	BaseURL string // such as http://127.0.0.1:3000
	Token   string // sent if it is not empty
	HTTP    *http.Client
}

// New makes a client of the API at baseURL, with or without a slash at its end.
// A request gets three minutes: more than the API itself allows.
func New(baseURL, token string) *Client {
	return &Client{BaseURL: strings.TrimSuffix(baseURL, "/"), Token: token, HTTP: &http.Client{
		Timeout: 3 * time.Minute, Transport: http.DefaultTransport.(*http.Transport).Clone(),
	}}
}

// Photo is a photo as the API shows it.
type Photo struct {
	UUID       uuid.UUID      `json:"uuid"`
	URL        string         `json:"url"`
	Status     photo.Status   `json:"status"`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
	Thumbnails []Thumbnail    `json:"thumbnails"`
	Failure    *photo.Failure `json:"failure"`
	WorkflowID string         `json:"workflow_id"`
}

// Final tells whether the photo has been processed, well or not.
func (p Photo) Final() bool { return p.Status == photo.Completed || p.Status == photo.Failed }

// Thumbnail is a thumbnail as the API shows it.
type Thumbnail struct {
	UUID   uuid.UUID `json:"uuid"`
	Width  int       `json:"width"`
	Height int       `json:"height"`
	URL    string    `json:"url"` // below /thumbnails/
}

// Error is an answer of the API that is no success.
type Error struct {
	API     string // its URL
	Status  int    // of HTTP
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("the API at %s answered %d: %s", e.API, e.Status, e.Message)
}

// IsNotFound tells whether the API answered that there is no such photo.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// Process asks for the photos to be processed, and gives the inputs that the
// API accepted and those that it rejected.
func (c *Client) Process(ctx context.Context, inputs []string) (accepted, rejected []string, err error) {
	body, err := json.Marshal(inputs)
	if err != nil {
		return nil, nil, err
	}
	var answer struct{ Accepted, Rejected []string }
	_, err = c.do(ctx, http.MethodPost, "/photos/process", body, &answer)
	return answer.Accepted, answer.Rejected, err
}

// Photo gives one photo.
func (c *Client) Photo(ctx context.Context, id uuid.UUID) (p Photo, err error) {
	_, err = c.do(ctx, http.MethodGet, "/photos/"+id.String(), nil, &p)
	return p, err
}

var nextLink = regexp.MustCompile(`<([^>]*)>; rel="next"`)

// Photos calls page for one page after the other of the photos with the status.
func (c *Client) Photos(ctx context.Context, status photo.Status, page func([]Photo) error) error {
	for path := "/photos/" + url.PathEscape(string(status)) + "?limit=1000"; path != ""; {
		var photos []Photo
		header, err := c.do(ctx, http.MethodGet, path, nil, &photos)
		if err != nil {
			return err
		}
		if err := page(photos); err != nil {
			return err
		}
		path = ""
		if link := nextLink.FindStringSubmatch(header.Get("Link")); link != nil {
			path = link[1]
		}
	}
	return nil
}

// do sends a request and reads the JSON of its answer.
func (c *Client) do(ctx context.Context, method, path string, body []byte, answer any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the API cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read the API's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		var failure struct{ Message string }
		if json.Unmarshal(content, &failure) != nil || failure.Message == "" {
			failure.Message = http.StatusText(resp.StatusCode)
		}
		return nil, &Error{API: c.BaseURL, Status: resp.StatusCode, Message: failure.Message}
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return nil, fmt.Errorf("%s %s: the answer is not what an API of photo-processor says: %w", method, path, err)
	}
	return resp.Header, nil
}
