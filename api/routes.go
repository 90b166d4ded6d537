package api

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
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
	if s.readiness == nil { // not by Run
		s.readiness = s.newReadiness()
	}
	if s.events == nil {
		s.events = newEventHub(s)
	}

	get := []string{http.MethodGet, http.MethodHead}
	r.HandleFunc("/photos/process", s.withQuery(s.processPhotos, "status", "code", "created_before", "limit")).Methods(http.MethodPost)
	r.HandleFunc("/photos/status", s.withQuery(s.readStatuses)).Methods(http.MethodPost)
	r.HandleFunc("/photos", s.withQuery(s.addPhotos, "process")).Methods(http.MethodPost)
	r.HandleFunc("/photos", s.withQuery(s.listPreviews, "status", "code", "after", "limit")).Methods(get...)
	r.HandleFunc("/photos/counts", s.withQuery(s.countPhotos)).Methods(get...)
	r.HandleFunc("/photos/{status:pending|processing|completed|failed}", s.withQuery(s.listPhotos, "after", "limit")).Methods(get...)
	r.HandleFunc("/photos/{uuid:[0-9A-Fa-f-]{32,36}}", s.withQuery(s.showPhoto)).Methods(get...)
	r.HandleFunc("/photos/{uuid:[0-9A-Fa-f-]{32,36}}", s.withQuery(s.deletePhoto)).Methods(http.MethodDelete)
	r.HandleFunc("/batches", s.withQuery(s.listBatches, "after", "limit")).Methods(get...)
	r.HandleFunc("/batches/{id:[0-9A-Fa-f-]{32,36}}", s.withQuery(s.showBatch)).Methods(get...)
	r.HandleFunc("/batches/{id:[0-9A-Fa-f-]{32,36}}", s.withQuery(s.cancelBatch)).Methods(http.MethodDelete)
	r.HandleFunc(eventsPath, s.withQuery(s.watchEvents)).Methods(http.MethodGet)
	r.HandleFunc("/thumbnails/{key:.+}", s.withQuery(s.showThumbnail)).Methods(get...)
	r.HandleFunc("/", s.withQuery(s.showPage)).Methods(get...)
	r.HandleFunc("/page/{file:[a-z.]+}", s.withQuery(s.showPageFile)).Methods(get...)
	r.HandleFunc("/healthz", s.withQuery(s.healthz)).Methods(get...)
	r.HandleFunc("/readyz", s.withQuery(s.readiness.ServeHTTP, "for", "verbose")).Methods(get...)
	r.Use(withRouteName)

	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "There is nothing at this path")
	})
	r.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		allowed := strings.Join(allowedMethods(r, req), ", ")
		w.Header().Set("Allow", allowed)
		writeError(w, http.StatusMethodNotAllowed, "This path can be used with "+allowed+" only")
	})
	return s.withTelemetry(s.withRequestLog(s.withRecover(withSecurityHeaders(s.withCORS(withoutCrossOrigin(s.withAuthorization(s.withTimeout(s.withMemory(r)))))))))
}

// allowedMethods lists the methods that the router has a route for.
func allowedMethods(r *mux.Router, req *http.Request) []string {
	return slices.DeleteFunc([]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete}, func(method string) bool {
		other := req.Clone(req.Context())
		other.Method = method
		var match mux.RouteMatch
		return !r.Match(other, &match) || match.MatchErr != nil
	})
}

// withQuery is a middleware that answers 400 to a query with other parameters
// than the known ones, or with one of them twice: a misspelled parameter would
// otherwise be ignored.
func (s *Server) withQuery(next http.HandlerFunc, known ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := checkQuery(r.URL.RawQuery, known); err != nil {
			s.fail(w, r, err)
			return
		}
		next(w, r)
	}
}

// checkQuery returns an error unless the query has only known parameters, each
// at most once.
func checkQuery(rawQuery string, known []string) error {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return badRequest("The query cannot be parsed: %s", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case slices.Contains(known, name):
			if len(query[name]) > 1 {
				return badRequest("The query parameter %s is given %d times", name, len(query[name]))
			}
		case len(known) == 0:
			return badRequest("Unknown query parameter %q; this path has no query parameters", name)
		default:
			return badRequest("Unknown query parameter %q; this path has: %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// withTimeout is a middleware that ends the request's context after HTTPTimeout,
// except for the stream of events.
func (s *Server) withTimeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == eventsPath {
			next.ServeHTTP(w, r)
			return
		}
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
