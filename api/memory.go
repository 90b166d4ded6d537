package api

import (
	"context"
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// errNoMemory is returned when request bodies and lists take HTTP_MAX_MEMORY.
var errNoMemory = errors.New("HTTP_MAX_MEMORY is used up by other requests")

// reservation is the memory that a request has reserved of HTTP_MAX_MEMORY. A
// client that sends or reads slowly keeps it for up to HTTP_TIMEOUT, so that
// without a bound a few clients could take all memory.
type reservation struct {
	free *semaphore.Weighted
	held int64
}

type reservationKey struct{}

// withMemory is a middleware that gives each request a reservation, and frees it
// at the request's end.
func (s *Server) withMemory(next http.Handler) http.Handler {
	free := semaphore.NewWeighted(s.Config.HTTPMaxMemory)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reserved := &reservation{free: free}
		defer func() { free.Release(reserved.held) }()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), reservationKey{}, reserved)))
	})
}

func memoryOf(r *http.Request) *reservation {
	return r.Context().Value(reservationKey{}).(*reservation)
}

// try reserves n more bytes. It returns false if they are not free.
func (m *reservation) try(n int64) bool {
	if !m.free.TryAcquire(n) {
		return false
	}
	m.held += n
	return true
}

// wait reserves n more bytes as soon as they are free. It returns errNoMemory if
// the context ends first. A request waits once and before it holds anything:
// otherwise requests could wait for each other.
func (m *reservation) wait(ctx context.Context, n int64) error {
	if err := m.free.Acquire(ctx, n); err != nil {
		return errors.Join(errNoMemory, err)
	}
	m.held += n
	return nil
}

// freeBodyBytes are read of each body without a reservation, so that clients
// with few photos need none.
const freeBodyBytes = 64 << 10

// reader returns a reader of a body that reserves what it reads. Its errors
// include errNoMemory.
func (m *reservation) reader(body io.Reader) io.Reader {
	return &reservingReader{body: body, memory: m, ready: freeBodyBytes}
}

type reservingReader struct {
	body   io.Reader
	memory *reservation
	ready  int // bytes that may be read before the next reservation
}

func (r *reservingReader) Read(p []byte) (int, error) {
	if r.ready == 0 {
		if !r.memory.try(freeBodyBytes) {
			return 0, errNoMemory
		}
		r.ready = freeBodyBytes
	}
	n, err := r.body.Read(p[:min(len(p), r.ready)])
	r.ready -= n
	return n, err
}
