// Package startup has a process wait for the servers that it needs.
package startup

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The pauses between two tries: soon at first, for servers that are started
// together; then rare enough for a log that somebody reads.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = 5 * time.Second
)

// WhenUp calls try until it succeeds or fails with an error that does not pass
// by itself, which it returns. Each error that does is logged, with the name of
// what is waited for. It returns nil, too, when the context is done: the process
// was asked to stop.
func WhenUp(ctx context.Context, log *slog.Logger, name string, passes func(error) bool, try func(context.Context) error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := try(ctx)
		if err != nil && !passes(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: firstPause, Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: maxPause,
	}), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		log.WarnContext(ctx, "waiting for "+name, "error", err.Error(), "next_try_in", wait)
	}))
	if ctx.Err() != nil {
		return nil
	}
	return err
}
