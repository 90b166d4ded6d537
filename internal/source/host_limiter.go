package source

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrHostBusy is returned by Fetch if other fetches took all slots of the
// source's host for longer than MaxHostWait. The source is not at fault.
var ErrHostBusy = errors.New("other fetches from the same host take all of its slots")

// hostLimiter bounds how many fetches run concurrently against one host. It
// keeps an entry for a host only while a fetch runs against the host or waits
// for a slot, so its size is bounded by the number of fetches.
//
// A waiting fetch occupies an activity slot of the worker. So at most maxWaiting
// fetches, of all hosts together, wait without a limit; they suffice to use a
// slot of the host as soon as it is free. A further fetch returns ErrHostBusy
// after maxWait, which frees its activity slot.
type hostLimiter struct {
	limit      int // slots per host
	maxWaiting int
	maxWait    time.Duration

	mu      sync.Mutex
	hosts   map[string]*hostSlots // by name
	waiting int                   // fetches that wait as long as it takes
}

type hostSlots struct {
	slots chan struct{} // holds one element for each running fetch
	users int           // running and waiting fetches; guarded by hostLimiter.mu
}

// acquire waits for one of the host's slots, first come first served. The error
// is ErrHostBusy or the context's.
func (l *hostLimiter) acquire(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	host := l.hosts[name]
	if host == nil {
		host = &hostSlots{slots: make(chan struct{}, l.limit)}
		l.hosts[name] = host
	}
	host.users++
	l.mu.Unlock()

	if err := l.waitForSlot(ctx, host); err != nil {
		l.removeUser(name, host)
		return nil, err
	}
	return func() {
		<-host.slots
		l.removeUser(name, host)
	}, nil
}

func (l *hostLimiter) waitForSlot(ctx context.Context, host *hostSlots) error {
	select {
	case host.slots <- struct{}{}:
		return nil
	default:
	}
	var giveUp <-chan time.Time // never, unless maxWaiting others wait
	if l.addWaiting() {
		defer l.removeWaiting()
	} else {
		timer := time.NewTimer(l.maxWait)
		defer timer.Stop()
		giveUp = timer.C
	}
	select {
	case host.slots <- struct{}{}:
		return nil
	case <-giveUp:
		return ErrHostBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// addWaiting returns false if maxWaiting fetches wait.
func (l *hostLimiter) addWaiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == l.maxWaiting {
		return false
	}
	l.waiting++
	return true
}

func (l *hostLimiter) removeWaiting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
}

func (l *hostLimiter) removeUser(name string, host *hostSlots) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if host.users--; host.users == 0 {
		delete(l.hosts, name)
	}
}
