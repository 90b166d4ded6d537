// Package webhook posts events to the operator's receiver, as
// https://www.standardwebhooks.com defines it: JSON with type, timestamp and
// data; the headers webhook-id, webhook-timestamp and webhook-signature.
package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// ErrGone is returned when the receiver answers 410: it wants no more of this
// event.
var ErrGone = errors.New("the receiver of webhooks answered 410 Gone")

// Config configures a Sender.
type Config struct {
	URL string // of the receiver, http or https
	// Secrets sign the events, each with a signature of its own: two allow a
	// rotation. A secret is base64 with the prefix whsec_.
	Secrets []string
	Timeout time.Duration // of one request
}

// Sender posts events. It may be used concurrently.
type Sender struct {
	url     string
	signers []*standardwebhooks.Webhook
	client  http.Client

	mu        sync.Mutex
	awayUntil time.Time
}

// awayTime is how long a receiver counts as away after a request failed.
const awayTime = 10 * time.Second

// The size of a secret in bytes, as the standard demands.
const (
	minSecretBytes = 24
	maxSecretBytes = 64
)

// CheckSecret returns an error unless the secret is valid. The error does not
// quote it.
func CheckSecret(secret string) error {
	text, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return errors.New("must begin with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errors.New("must be base64 after whsec_")
	}
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return fmt.Errorf("must have %d to %d bytes, not %d", minSecretBytes, maxSecretBytes, len(key))
	}
	return nil
}

// New returns a sender.
func New(cfg Config) (*Sender, error) {
	s := &Sender{url: cfg.URL, client: http.Client{
		Timeout: cfg.Timeout,
		// The address is the operator's own: it may be private, and nobody else
		// may redirect events elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute},
	}}
	for _, secret := range cfg.Secrets {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, errors.New("WEBHOOK_SECRET: is not base64")
		}
		s.signers = append(s.signers, signer)
	}
	return s, nil
}

// Event is an event. Its ID is the same at each attempt.
type Event struct {
	ID   string
	Type string // such as photo.completed
	At   time.Time
	Data any // encoded as JSON
}

// Send posts the event. It returns ErrGone, or an error that says why the
// receiver did not accept it, without the URL, which may have a secret.
func (s *Sender) Send(ctx context.Context, e Event) error {
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      any       `json:"data"`
	}{e.Type, e.At.UTC(), e.Data})
	if err != nil {
		return fmt.Errorf("encode a webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address of the receiver of webhooks is invalid")
	}
	now := time.Now() // of this attempt: receivers reject old timestamps
	signatures := make([]string, len(s.signers))
	for i, signer := range s.signers {
		if signatures[i], err = signer.Sign(e.ID, now, body); err != nil {
			return fmt.Errorf("sign a webhook: %w", err)
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "photo-processor")
	req.Header.Set(standardwebhooks.HeaderWebhookID, e.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	err = s.do(req)
	s.setAway(err != nil && !errors.Is(err, ErrGone))
	return err
}

func (s *Sender) do(req *http.Request) error {
	resp, err := s.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // its text has the URL
			err = wrapped.Err
		}
		return fmt.Errorf("the receiver of webhooks cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection is used again
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusGone:
		return ErrGone
	default:
		return fmt.Errorf("the receiver of webhooks answered %d", resp.StatusCode)
	}
}

func (s *Sender) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awayUntil = time.Time{}
	if away {
		s.awayUntil = time.Now().Add(awayTime)
	}
}

// IsAway reports whether a request has failed within the last 10 seconds, and
// none has succeeded since.
func (s *Sender) IsAway() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.awayUntil)
}
