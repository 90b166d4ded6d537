package api

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/rs/cors"
)

// withHostCheck is a middleware that allows only a Host which is an IP address,
// localhost, or in HTTP_ALLOWED_HOSTS. A web page can have its own name resolve
// to this machine (DNS rebinding); the browser then lets it read the responses,
// but sends that name as Host. Probes are allowed: load balancers use any name.
func (s *Server) withHostCheck(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil { // without a port
			host = r.Host
		}
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		_, notAddress := netip.ParseAddr(strings.Trim(host, "[]"))
		if notAddress != nil && cmp.Or(host, "localhost") != "localhost" && !slices.Contains(s.Config.HTTPAllowedHosts, host) && !isProbe(r) {
			writeError(w, http.StatusForbidden, fmt.Sprintf(
				"The Host %q is not allowed without a token. Use an IP address or localhost, or add it to HTTP_ALLOWED_HOSTS", host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withoutCrossOrigin is a middleware that rejects requests by which a browser
// would change something for a page of another origin. Programs such as curl
// send no Origin and no Sec-Fetch-Site.
func withoutCrossOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusForbidden, "A page of another origin may not send this request")
	}))
	return protection.Handler(next)
}

// corsMaxAge is how long a browser may remember the response to a preflight, in
// seconds.
const corsMaxAge = 600

// withCORS is a middleware that lets pages of HTTP_CORS_ORIGINS read responses,
// such as lists and thumbnails. They may not change anything.
func (s *Server) withCORS(next http.Handler) http.Handler {
	if len(s.Config.HTTPCORSOrigins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: s.Config.HTTPCORSOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead},
		AllowedHeaders: []string{"Authorization", "If-Modified-Since", "If-None-Match", "Last-Event-ID", "Range"},
		ExposedHeaders: []string{"ETag", "Link", "Retry-After"},
		MaxAge:         corsMaxAge,
	}).Handler(next)
}

// withAuthorization is a middleware that requires a valid bearer token, except
// for public paths. Without configured tokens no request needs one, but its Host
// must be allowed.
func (s *Server) withAuthorization(next http.Handler) http.Handler {
	if len(s.Config.APITokens) == 0 {
		return s.withHostCheck(next)
	}
	// Digests have equal lengths, so that the time of a comparison does not
	// depend on the length of a token.
	digests := make([][sha256.Size]byte, len(s.Config.APITokens))
	for i, token := range s.Config.APITokens {
		digests[i] = sha256.Sum256([]byte(token))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isPublic(r) {
			next.ServeHTTP(w, r)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		given := sha256.Sum256([]byte(strings.TrimSpace(token)))
		valid := 0
		for _, digest := range digests { // no early return: the time must not depend on which one matches
			valid |= subtle.ConstantTimeCompare(given[:], digest[:])
		}
		if valid == 0 || !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "An Authorization header with a valid bearer token is needed")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isPublic is true for paths that need no token: health probes, and the page,
// which asks for the token itself.
func isPublic(r *http.Request) bool { return isProbe(r) || isPage(r) }
