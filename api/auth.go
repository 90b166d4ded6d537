package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authorized lets a request pass that has one of the tokens, and those for
// which none is needed: all, if there is no token, or else those for health.
func (s *Server) authorized(next http.Handler) http.Handler {
	if len(s.Config.APITokens) == 0 {
		return next
	}
	// Digests are of one length, so that comparing them tells nothing, not even
	// the length of a token.
	digests := make([][sha256.Size]byte, len(s.Config.APITokens))
	for i, token := range s.Config.APITokens {
		digests[i] = sha256.Sum256([]byte(token))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		given := sha256.Sum256([]byte(strings.TrimSpace(token)))
		right := 0
		for _, digest := range digests { // all of them, whichever is right
			right |= subtle.ConstantTimeCompare(given[:], digest[:])
		}
		if right == 0 || !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "An Authorization header with a valid bearer token is needed")
			return
		}
		next.ServeHTTP(w, r)
	})
}
