package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// client posts photos until they are accepted, and counts the posts.
type client struct {
	api string

	mu       sync.Mutex
	accepted map[uuid.UUID]bool
	deleted  map[uuid.UUID]bool
	posts    map[uuid.UUID]int // that may have reached the API
	batches  int               // accepted requests whose photos a workflow starts

	locations map[string]int // numbers of photos by the paths of their batches
}

// post posts until it gets a response. sent is called with each attempt.
func (c *client) post(ctx context.Context, ids []uuid.UUID, sent func()) error {
	body, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	for {
		c.count(ids, 1)
		sent()
		answer, err := c.postOnce(ctx, body)
		switch {
		case err == nil && len(answer.Accepted) == len(ids):
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(ids) > startDirectly {
				c.batches++
			}
			if answer.location != "" { // it has none if PostgreSQL was away
				c.locations[answer.location] = len(ids)
			}
			for _, id := range answer.Accepted {
				c.accepted[id] = true
			}
			return nil
		case err == nil:
			return fmt.Errorf("the API has accepted %d of %d", len(answer.Accepted), len(ids))
		case ctx.Err() != nil:
			return err
		case errors.Is(err, syscall.ECONNREFUSED): // it did not reach the API
			c.count(ids, -1)
		}
		if err := waitUntil(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
			return err
		}
	}
}

// delete deletes a photo, and repeats that until it gets a response.
func (c *client) delete(ctx context.Context, id uuid.UUID) error {
	for attempt := 1; ; attempt++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.api+"/photos/"+id.String(), nil)
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
			// After the first attempt, a response may have been lost.
			if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotFound && attempt > 1 {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.deleted[id] = true
				return nil
			}
			if resp.StatusCode < 500 {
				return fmt.Errorf("%w: %s", errStatus, resp.Status)
			}
		}
		if err := waitUntil(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
			return err
		}
	}
}

func (c *client) count(ids []uuid.UUID, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.posts[id] += n
	}
}

type answer struct {
	Accepted, Rejected []uuid.UUID
	location           string // of the batch
}

// errStatus is an error response, such as 503 while Temporal is away.
var errStatus = errors.New("unexpected answer")

func (c *client) postOnce(ctx context.Context, body []byte) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.api+"/photos/process", bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	// A new connection each time: net/http repeats requests on reused ones.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.StatusCode != http.StatusCreated {
		return a, fmt.Errorf("%w: %s: %s", errStatus, resp.Status, content)
	}
	a.location = resp.Header.Get("Location")
	return a, json.Unmarshal(content, &a)
}
