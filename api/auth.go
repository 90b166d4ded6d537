package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// withAuthorization is a middleware that requires a valid bearer token. Health
// probes need none, and without configured tokens no request does.
func (s *Server) withAuthorization(next http.Handler) http.Handler {
	if len(s.Config.APITokens) == 0 {
		return next
	}
	// Digests have equal lengths, so that the time of a comparison does not
	// depend on the length of a token.
	digests := make([][sha256.Size]byte, len(s.Config.APITokens))
	for i, token := range s.Config.APITokens {
		digests[i] = sha256.Sum256([]byte(token))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isProbe(r) {
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
