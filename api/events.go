package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// eventsPath is the path of the stream of events.
const eventsPath = "/events"

const (
	// keepAlive is the time between comments of a stream without events: less than
	// the usual idle timeout of a proxy.
	keepAlive = 15 * time.Second
	// eventWriteTimeout bounds writing events to a client. A client that does not
	// read is disconnected, and reads what it missed when it is back.
	eventWriteTimeout = 10 * time.Second
)

// errTooManyWatchers is returned when HTTP_MAX_WATCHERS clients watch events.
var errTooManyWatchers = errors.New("HTTP_MAX_WATCHERS clients watch events")

// watchEvents serves GET /events: server-sent events, as the HTML standard
// defines them, until the client goes or the server stops.
func (s *Server) watchEvents(w http.ResponseWriter, r *http.Request) {
	position, err := s.events.join(r.Context(), r.Header.Get("Last-Event-ID"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.events.leave()
	response := http.NewResponseController(w)
	write := func(frames ...[]byte) error {
		if err := response.SetWriteDeadline(time.Now().Add(eventWriteTimeout)); err != nil {
			return err
		}
		for _, frame := range frames {
			if _, err := w.Write(frame); err != nil {
				return err
			}
		}
		return response.Flush()
	}
	// The server's timeout of reading the request would end the stream.
	if err := response.SetReadDeadline(time.Time{}); err != nil {
		s.fail(w, r, fmt.Errorf("watch events: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")                      // of nginx
	if write(fmt.Appendf(nil, "id: %d\n\n", position.id)) != nil { // with which the client can reconnect before the first event
		return
	}
	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	for {
		frames, more := s.events.next(&position)
		if len(frames) > 0 {
			if write(frames...) != nil {
				return
			}
			continue
		}
		select {
		case <-more:
		case <-idle.C:
			if write([]byte(":\n\n")) != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.stopping:
			return
		}
	}
}

// position is how far a client has received the events.
type position struct {
	next int64 // sequence number of the next event; lost if the hub may lack it
	id   int64 // of the last event
}

// lost is before every sequence number.
const lost = -1

// emptyData is the data of the event "reset", after which clients read the lists
// again.
var emptyData = []byte("{}\n")

// formatEvent formats a server-sent event. The data is JSON, which has no line
// breaks but the one at its end.
func formatEvent(name string, id int64, data []byte) []byte {
	return fmt.Appendf(nil, "event: %s\nid: %d\ndata: %s\n", name, id, data)
}

// join has the hub read changes for one more client, and returns the client's
// position: behind the event with the ID, or at the end if the ID is empty. If
// events after the ID are lost, the next event is a reset.
func (h *eventHub) join(ctx context.Context, lastID string) (position, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers >= h.server.Config.HTTPMaxWatchers {
		return position{}, errTooManyWatchers
	}
	if !h.running {
		if err := h.start(ctx); err != nil {
			return position{}, err
		}
	}
	h.watchers++
	p := position{next: h.end(), id: h.id}
	if lastID == "" {
		return p, nil
	}
	id, err := strconv.ParseInt(lastID, 10, 64)
	if err != nil || id < h.dropped || id > h.id {
		p.next = lost
		return p, nil
	}
	for i, frame := range h.frames {
		if frame.id > id-changesOverlap.Microseconds() {
			p.next = h.begin + int64(i)
			break
		}
	}
	return p, nil
}

// clients returns the number of clients.
func (h *eventHub) clients() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watchers
}

func (h *eventHub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers--
	h.left = time.Now()
}

// next returns the events after the position, and moves it behind them. If there
// are none, it returns a channel that is closed when there are.
func (h *eventHub) next(p *position) (frames [][]byte, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.next < h.begin { // lost, or the client is too slow
		p.next = h.end()
		return [][]byte{formatEvent("reset", h.id, emptyData)}, nil
	}
	for _, frame := range h.frames[min(p.next-h.begin, int64(len(h.frames))):] {
		frames = append(frames, frame.text)
	}
	p.next = h.end()
	return frames, h.more
}
