package api

import (
	"context"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"
)

// readyTimeout is how long PostgreSQL and Temporal have to answer /readyz:
// less than a load balancer waits.
const readyTimeout = 3 * time.Second

// healthz serves GET /healthz: the process is alive.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// noteReady logs when PostgreSQL or Temporal has gone away, and when it is
// back: who asks /readyz asks often.
func (s *Server) noteReady(name string, err error) {
	before, _ := s.missing.Swap(name, err != nil)
	switch {
	case err != nil && before != true:
		s.Log.Warn("not ready", "missing", name, "error", err)
	case err == nil && before == true:
		s.Log.Info("reachable again", "what", name)
	}
}

// readyz serves GET /readyz: whether PostgreSQL and Temporal can be reached.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	var answer struct {
		Message    string `json:"message"`
		PostgreSQL string `json:"postgresql"`
		Temporal   string `json:"temporal"`
	}
	var group errgroup.Group
	check := func(result *string, name string, ping func() error) {
		group.Go(func() error {
			*result = "ok"
			err := ping()
			if err != nil {
				*result = "unreachable"
			}
			s.noteReady(name, err)
			return err
		})
	}
	check(&answer.PostgreSQL, "PostgreSQL", func() error { return s.DB.Ping(ctx) })
	check(&answer.Temporal, "Temporal", func() error {
		_, err := s.Temporal.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	})
	if group.Wait() != nil {
		answer.Message = "Not ready"
		writeJSON(w, http.StatusServiceUnavailable, answer)
		return
	}
	answer.Message = "Ready"
	writeJSON(w, http.StatusOK, answer)
}
