// Package client is a client of photo-processor's HTTP API, for the command
// line and for tests. Requests and types are generated from api/openapi.yaml
// into package openapi.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/client/openapi"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// pageSize is how many elements a page of a list has: the most that the API
// allows.
const pageSize = 1000

// Types of the API, generated from api/openapi.yaml.
type (
	// Photo is a photo with its thumbnails and failure.
	Photo = openapi.PhotoDetail
	// PhotoSummary is a photo in a list.
	PhotoSummary = openapi.PhotoSummary
	// PhotoStatus is the status of a photo.
	PhotoStatus = openapi.PhotoStatus
	// Thumbnail is one thumbnail of a photo.
	Thumbnail = openapi.Thumbnail
)

// Client is a client of one API. It may be used concurrently.
type Client struct {
	api     openapi.ClientWithResponses
	baseURL string // without a slash at its end
}

// New returns a client of the API at baseURL, such as http://127.0.0.1:3000,
// with or without a slash at its end. Requests carry the token unless it is
// empty, and time out after three minutes.
func New(baseURL, token string) *Client {
	baseURL = strings.TrimSuffix(baseURL, "/")
	return &Client{baseURL: baseURL, api: openapi.ClientWithResponses{ClientInterface: &openapi.Client{
		Server: baseURL + "/", Client: newTransport(baseURL, token),
	}}}
}

// Add adds photos with the URLs, and starts their workflows if process is true.
// The photos are in the order of the URLs; either all are added or none. If the
// workflows cannot be started, it returns the added photos and an *Error with
// the status 503.
func (c *Client) Add(ctx context.Context, process bool, urls ...string) ([]PhotoSummary, error) {
	photos := make([]openapi.NewPhoto, len(urls))
	for i, url := range urls {
		photos[i].URL = url
	}
	var body openapi.AddPhotosRequest
	if err := body.FromNewPhotos(photos); err != nil {
		return nil, err
	}
	resp, err := c.api.AddPhotosWithResponse(ctx, &openapi.AddPhotosParams{Process: &process}, body)
	if refused, ok := errors.AsType[*Error](err); ok {
		var added openapi.NotStarted
		if json.Unmarshal(refused.body, &added) == nil && added.Photos != nil {
			return *added.Photos, err
		}
	}
	if err != nil {
		return nil, err
	}
	return bodyOf(resp.JSON201, resp.HTTPResponse)
}

// Process starts the photos' workflows, and returns the inputs that the API
// accepted and those that it rejected because they are not UUIDs.
func (c *Client) Process(ctx context.Context, inputs []string) (accepted, rejected []string, err error) {
	body := make(openapi.ProcessPhotosJSONRequestBody, len(inputs))
	for i, input := range inputs {
		body[i] = input
	}
	resp, err := c.api.ProcessPhotosWithResponse(ctx, nil, body)
	if err != nil {
		return nil, nil, err
	}
	if resp.JSON201 == nil {
		return nil, nil, unexpected(resp.HTTPResponse)
	}
	for _, input := range resp.JSON201.Rejected {
		rejected = append(rejected, fmt.Sprint(input))
	}
	return resp.JSON201.Accepted, rejected, nil
}

// Photo returns one photo with its thumbnails.
func (c *Client) Photo(ctx context.Context, id uuid.UUID) (Photo, error) {
	resp, err := c.api.GetPhotoWithResponse(ctx, id)
	if err != nil {
		return Photo{}, err
	}
	return bodyOf(resp.JSON200, resp.HTTPResponse)
}

// ThumbnailURL returns the URL at which the API serves the thumbnail.
func (c *Client) ThumbnailURL(t Thumbnail) string { return c.baseURL + "/thumbnails/" + t.URL }

// DeletePhoto deletes a photo and its thumbnails.
func (c *Client) DeletePhoto(ctx context.Context, id uuid.UUID) error {
	resp, err := c.api.DeletePhotoWithResponse(ctx, id)
	if err != nil {
		return err
	}
	if resp.StatusCode() != http.StatusNoContent {
		return unexpected(resp.HTTPResponse)
	}
	return nil
}

// MaxStatuses is how many photos one call of Statuses may read.
const MaxStatuses = 1000

// Statuses reads the statuses of up to MaxStatuses photos, in no order. A UUID
// that no photo has is left out.
func (c *Client) Statuses(ctx context.Context, ids []uuid.UUID) ([]PhotoStatus, error) {
	resp, err := c.api.ReadStatusesWithResponse(ctx, ids)
	if err != nil {
		return nil, err
	}
	return bodyOf(resp.JSON200, resp.HTTPResponse)
}

// Photos calls page for one page after the other of the photos with the status,
// oldest first.
func (c *Client) Photos(ctx context.Context, status photo.Status, page func([]PhotoSummary) error) error {
	for after := (*string)(nil); ; {
		resp, err := c.list(ctx, status, after) //nolint:bodyclose // parsing closes it
		if err != nil {
			return err
		}
		photos, err := openapi.ParseListPendingPhotosResponse(resp) // the same for every status
		if err != nil {
			return err
		}
		if photos.JSON200 == nil {
			return unexpected(resp)
		}
		if err := page(*photos.JSON200); err != nil {
			return err
		}
		if after = nextPage(resp.Header); after == nil {
			return nil
		}
	}
}

// list requests one page. OpenAPI has no path that is both /photos/{status} and
// distinct from /photos/{uuid}, so that each status has an operation.
func (c *Client) list(ctx context.Context, status photo.Status, after *string) (*http.Response, error) {
	limit := pageSize
	switch status {
	case photo.Pending:
		return c.api.ListPendingPhotos(ctx, &openapi.ListPendingPhotosParams{Limit: &limit, After: after})
	case photo.Processing:
		return c.api.ListProcessingPhotos(ctx, &openapi.ListProcessingPhotosParams{Limit: &limit, After: after})
	case photo.Completed:
		return c.api.ListCompletedPhotos(ctx, &openapi.ListCompletedPhotosParams{Limit: &limit, After: after})
	case photo.Failed:
		return c.api.ListFailedPhotos(ctx, &openapi.ListFailedPhotosParams{Limit: &limit, After: after})
	}
	return nil, fmt.Errorf("no photo has the status %q", status)
}

var nextLink = regexp.MustCompile(`<([^>]*)>; rel="next"`)

// nextPage is the "after" of the next page, or nil if there is none.
func nextPage(header http.Header) *string {
	link := nextLink.FindStringSubmatch(header.Get("Link"))
	if link == nil {
		return nil
	}
	next, err := url.Parse(link[1])
	if err != nil || !next.Query().Has("after") {
		return nil
	}
	after := next.Query().Get("after")
	return &after
}
