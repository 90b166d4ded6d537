package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/felixge/httpsnoop"
	"github.com/gorilla/mux"

	"github.com/photo-processor/photo-processor/internal/telemetry"
)

// Handler returns the API's routes behind its middlewares.
func (s *Server) Handler() http.Handler {
	// Paths are not cleaned, because the router redirects a path that it
	// cleans. No route matches a path with "..".
	r := mux.NewRouter().SkipClean(true)

	get := []string{http.MethodGet, http.MethodHead}
	r.HandleFunc("/photos/process", s.processPhotos).Methods(http.MethodPost)
	r.HandleFunc("/photos", s.addPhotos).Methods(http.MethodPost)
	r.HandleFunc("/photos/{status:pending|processing|completed|failed}", s.listPhotos).Methods(get...)
	r.HandleFunc("/photos/{uuid:[0-9A-Fa-f-]{32,36}}", s.showPhoto).Methods(get...)
	r.HandleFunc("/thumbnails/{key:.+}", s.showThumbnail).Methods(get...)
	r.HandleFunc("/healthz", s.healthz).Methods(get...)
	r.Handle("/readyz", cmp.Or(s.readiness, s.newReadiness())).Methods(get...)
	r.Use(withRouteName)

	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "There is nothing at this path")
	})
	r.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		allowed := strings.Join(allowedMethods(r, req), ", ")
		w.Header().Set("Allow", allowed)
		writeError(w, http.StatusMethodNotAllowed, "This path can be used with "+allowed+" only")
	})
	return s.withTelemetry(s.withRequestLog(s.withRecover(withSecurityHeaders(withoutCrossOrigin(s.withAuthorization(s.withTimeout(s.withMemory(r))))))))
}

// allowedMethods lists the methods that the router has a route for.
func allowedMethods(r *mux.Router, req *http.Request) []string {
	return slices.DeleteFunc([]string{http.MethodGet, http.MethodHead, http.MethodPost}, func(method string) bool {
		other := req.Clone(req.Context())
		other.Method = method
		var match mux.RouteMatch
		return !r.Match(other, &match) || match.MatchErr != nil
	})
}

// withTimeout is a middleware that ends the request's context after HTTPTimeout.
func (s *Server) withTimeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.Config.HTTPTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// withSecurityHeaders is a middleware that forbids browsers to guess media
// types and to run or frame a response.
func withSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// withRecover is a middleware that answers 500 if the handler panics.
func (s *Server) withRecover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				s.Log.ErrorContext(r.Context(), "handler panicked", "panic", p, "stack", string(debug.Stack()))
				writeError(w, http.StatusInternalServerError, internalError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// withRequestLog is a middleware that logs each request, without the query,
// which may have secrets. Probes are logged at debug level.
func (s *Server) withRequestLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), photoLogAttrsKey{}, new([]slog.Attr)))
		m := httpsnoop.CaptureMetrics(next, w, r)
		level := slog.LevelInfo
		if isProbe(r) {
			level = slog.LevelDebug
		}
		ctx := telemetry.WithAttrs(r.Context(), *photoLogAttrs(r)...)
		s.Log.Log(ctx, level, "request", "method", r.Method, "path", r.URL.Path, "status", m.Code,
			"bytes", m.Written, "duration", m.Duration, "remote", r.RemoteAddr)
	})
}

type photoLogAttrsKey struct{}

// photoLogAttrs returns the attributes that name the request's photo in its log
// lines. They are empty until a handler sets them.
func photoLogAttrs(r *http.Request) *[]slog.Attr {
	attrs, ok := r.Context().Value(photoLogAttrsKey{}).(*[]slog.Attr)
	if !ok {
		return new([]slog.Attr) // a test calls the handler without the middleware
	}
	return attrs
}

// isProbe is true for health probes, which arrive every few seconds.
func isProbe(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }
