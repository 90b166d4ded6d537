package source

import (
	"context"
	"sync"
)

// hosts bounds how many fetches run against one host at a time. It remembers a
// host only while a fetch runs against it or waits to.
type hosts struct {
	limit int

	mu     sync.Mutex
	byName map[string]*host
}

type host struct {
	slots chan struct{} // holds one element for each running fetch
	users int           // fetches that run or wait; guarded by hosts.mu
}

// acquire waits for a slot, first come first served. Its only error is the
// context's.
func (h *hosts) acquire(ctx context.Context, name string) (release func(), err error) {
	h.mu.Lock()
	entry := h.byName[name]
	if entry == nil {
		entry = &host{slots: make(chan struct{}, h.limit)}
		h.byName[name] = entry
	}
	entry.users++
	h.mu.Unlock()

	select {
	case entry.slots <- struct{}{}:
		return func() {
			<-entry.slots
			h.leave(name, entry)
		}, nil
	case <-ctx.Done():
		h.leave(name, entry)
		return nil, ctx.Err()
	}
}

func (h *hosts) leave(name string, entry *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if entry.users--; entry.users == 0 {
		delete(h.byName, name)
	}
}
