package api

import (
	"context"
	"net/http"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/health"
)

// healthz serves GET /healthz, the liveness probe.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// newReadiness returns the handler of GET /readyz, the readiness probe. The
// thumbnails bucket is optional: without it, all routes but /thumbnails still
// work. Without Temporal, reads still work.
func (s *Server) newReadiness() *health.Readiness {
	return &health.Readiness{Log: s.Log, Checks: []health.Check{
		{Name: "postgresql", Title: "PostgreSQL", Ping: s.DB.Ping},
		{Name: "temporal", Title: "Temporal", ForWrites: true, Ping: func(ctx context.Context) error {
			return config.PingTemporal(ctx, s.Temporal, s.Namespace)
		}},
		{Name: "thumbnails_bucket", Title: "the thumbnails bucket", Optional: true, Ping: bucket.Check(s.Thumbnails)},
	}}
}
