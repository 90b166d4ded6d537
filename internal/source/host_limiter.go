package source

import (
	"context"
	"sync"
)

// hostLimiter bounds how many fetches run concurrently against one host. It
// keeps an entry for a host only while a fetch runs against the host or waits
// for a slot, so its size is bounded by the number of fetches.
type hostLimiter struct {
	limit int // slots per host

	mu    sync.Mutex
	hosts map[string]*hostSlots // by name
}

type hostSlots struct {
	slots chan struct{} // holds one element for each running fetch
	users int           // running and waiting fetches; guarded by hostLimiter.mu
}

// acquire waits for one of the host's slots, first come first served. The error
// is the context's.
func (l *hostLimiter) acquire(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	host := l.hosts[name]
	if host == nil {
		host = &hostSlots{slots: make(chan struct{}, l.limit)}
		l.hosts[name] = host
	}
	host.users++
	l.mu.Unlock()

	select {
	case host.slots <- struct{}{}:
		return func() {
			<-host.slots
			l.removeUser(name, host)
		}, nil
	case <-ctx.Done():
		l.removeUser(name, host)
		return nil, ctx.Err()
	}
}

func (l *hostLimiter) removeUser(name string, host *hostSlots) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if host.users--; host.users == 0 {
		delete(l.hosts, name)
	}
}
