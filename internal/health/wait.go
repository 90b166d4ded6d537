package health

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// WaitUntilReady calls try until it returns nil, with pauses of 0.2 s at first
// and 5 s at most. It logs transient errors with the server's name, each text
// once in a row, and returns the first error that is not transient. It returns nil, too, when ctx
// ends: the process was asked to stop.
func WaitUntilReady(ctx context.Context, log *slog.Logger, server string, isTransient func(error) bool, try func(context.Context) error) error {
	logged := ""
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := try(ctx)
		if err != nil && !isTransient(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 200 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: 5 * time.Second,
	}), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		if text := err.Error(); text != logged {
			logged = text
			log.WarnContext(ctx, "waiting for "+server, "error", text)
		}
	}))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Get returns nil if /readyz of the process at the URL answers 200. The error has
// what is missing.
func Get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("/readyz answered %d: %s", resp.StatusCode, bytes.TrimSpace(body))
	}
	return nil
}
