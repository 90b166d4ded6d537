package api

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/photojson"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

const (
	// changesOverlap is how far back each reading of changes begins: a change
	// has the time at which its transaction began, and appears when it ends.
	changesOverlap = 5 * time.Second
	// maxChanges is the number of new changes that are sent as events. After more,
	// clients read the lists again. maxWindow is the number of changes in one
	// reading, most of which are known.
	maxChanges = 500
	maxWindow  = 5000
	// maxEventBytes is the size of all stored events, and maxBatchEvents the number
	// of open batches that are watched, the newest ones.
	maxEventBytes  = 4 << 20
	maxBatchEvents = 20
	// linger is how long changes are read after the last client has gone, which is
	// usually back soon.
	linger = 30 * time.Second
	// countPause bounds the share of time that is spent on counting photos and the
	// photos of batches: a pause lasts 20 times as long as the count before it.
	countPause = 20
)

// eventHub reads changes of photos and batches while clients watch, and keeps
// the newest events for all of them: what the database has to do does not depend
// on the number of clients.
type eventHub struct {
	server *Server

	mu       sync.Mutex
	running  bool
	watchers int
	left     time.Time // when the last client went
	frames   []frame   // the newest events
	begin    int64     // sequence number of the first of frames
	bytes    int       // of frames
	dropped  int64     // id of the newest event that is no longer in frames; a client with an older one is reset
	id       int64     // of the newest event
	more     chan struct{}
}

// frame is one event. Its id is the time of the newest change, in microseconds:
// it means the same to every API process.
type frame struct {
	id   int64
	text []byte
}

func newEventHub(s *Server) *eventHub {
	return &eventHub{server: s, more: make(chan struct{})}
}

// end returns the sequence number of the next event.
func (h *eventHub) end() int64 { return h.begin + int64(len(h.frames)) }

// start begins to read changes. The caller has locked the hub.
func (h *eventHub) start(ctx context.Context) error {
	timeout, cancel := context.WithTimeout(ctx, h.server.Config.HTTPTimeout)
	defer cancel()
	now, err := h.server.DB.Now(timeout)
	if err != nil {
		return err
	}
	h.running = true
	h.begin, h.frames, h.bytes = h.end(), nil, 0
	h.id = max(h.id, now.UnixMicro())
	h.dropped = h.id
	go h.run(context.WithoutCancel(ctx), &changeReader{
		server: h.server, newest: now, since: now.Add(-changesOverlap), known: map[uuid.UUID]time.Time{}, batches: map[uuid.UUID][]byte{}, uncounted: true,
	})
	return nil
}

// run reads changes until no client has watched for a while.
func (h *eventHub) run(ctx context.Context, reader *changeReader) {
	ticker := time.NewTicker(h.server.Config.EventsInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-h.server.stopping:
			return
		}
		if h.stopIfUnwatched() {
			return
		}
		events, err := reader.read(ctx)
		h.publish(reader.newest, events)
		if err != nil {
			h.server.outageLines.Do("events"+postgres.SQLState(err), func() {
				h.server.Log.WarnContext(ctx, "changes for GET /events cannot be read; they follow when they can", "error", err)
			})
		}
	}
}

func (h *eventHub) stopIfUnwatched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = h.watchers > 0 || time.Since(h.left) < linger
	return !h.running
}

// publish stores the events, and wakes the clients.
func (h *eventHub) publish(newest time.Time, events []event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.id = max(h.id, newest.UnixMicro())
	for _, e := range events {
		text := formatEvent(e.name, h.id, e.data)
		h.frames = append(h.frames, frame{h.id, text})
		h.bytes += len(text)
	}
	for h.bytes > maxEventBytes {
		h.bytes -= len(h.frames[0].text)
		h.dropped = h.frames[0].id
		h.frames = h.frames[1:]
		h.begin++
	}
	close(h.more)
	h.more = make(chan struct{})
}

// event is a server-sent event without its ID.
type event struct {
	name string
	data []byte // JSON
}

// changeReader reads changes of photos and batches. It is used by one goroutine.
type changeReader struct {
	server *Server
	newest time.Time               // of all changes so far
	since  time.Time               // where the next reading begins
	known  map[uuid.UUID]time.Time // the changes since then that were sent

	uncounted   bool // photos have changed since they were counted
	counts      []byte
	nextCount   time.Time
	batches     map[uuid.UUID][]byte // open batches, as they were sent
	nextBatches time.Time
}

// read returns the events since the last call. Events that it could not read
// come with a later call.
func (c *changeReader) read(ctx context.Context) ([]event, error) {
	ctx, cancel := context.WithTimeout(ctx, c.server.Config.HTTPTimeout)
	defer cancel()
	events, err := c.readPhotos(ctx)
	if err == nil && c.uncounted && time.Now().After(c.nextCount) {
		err = c.readCounts(ctx, &events)
	}
	if err == nil && time.Now().After(c.nextBatches) {
		err = c.readBatches(ctx, &events)
	}
	return events, err
}

// nextCountTime returns when to count next after a count that began at a time and
// ends now: countPause times as long from now as it took.
func nextCountTime(began time.Time) time.Time {
	took := time.Since(began)
	return began.Add(took + countPause*took)
}

func (c *changeReader) readPhotos(ctx context.Context) ([]event, error) {
	changes, err := c.server.DB.Changes(ctx, c.since, maxWindow)
	if err != nil {
		return nil, err
	}
	known := make(map[uuid.UUID]time.Time, len(changes))
	newest := c.newest
	var changed []uuid.UUID
	for _, change := range changes {
		if !c.known[change.Photo].Equal(change.At) {
			changed = append(changed, change.Photo)
		}
		known[change.Photo] = change.At
		newest = change.At // they are ordered
	}
	since := newest.Add(-changesOverlap)
	isReset := len(changed) > maxChanges
	if len(changes) == maxWindow { // clients read the rest with their lists
		isReset = true
		if newest, err = c.server.DB.Now(ctx); err != nil {
			return nil, err
		}
		since = newest
	}
	var events []event
	if len(changed) > 0 && !isReset {
		photos, err := c.server.DB.PreviewsByUUID(ctx, changed)
		if err != nil {
			return nil, err
		}
		previews := make([]photoPreview, len(photos))
		for i, p := range photos {
			previews[i] = c.server.toPreview(p)
		}
		data := encodeJSON(previews)
		isReset = len(data) > maxPageBytes
		events = append(events, event{"photos", data})
	}
	if isReset {
		events = []event{{"reset", emptyData}}
	}
	if newest.After(c.newest) {
		c.newest = newest
	}
	if since.After(c.since) {
		c.since = since
	}
	c.known = known
	c.uncounted = c.uncounted || len(changed) > 0
	return events, nil
}

func (c *changeReader) readCounts(ctx context.Context, events *[]event) error {
	began := time.Now()
	counts, err := c.server.DB.CountPhotos(ctx)
	if err != nil {
		return err
	}
	c.nextCount, c.uncounted = nextCountTime(began), false
	if data := encodeJSON(photojson.ToCounts(counts)); !bytes.Equal(data, c.counts) {
		c.counts = data
		*events = append(*events, event{"counts", data})
	}
	return nil
}

func (c *changeReader) readBatches(ctx context.Context, events *[]event) error {
	began := time.Now()
	batches, err := c.server.DB.OpenBatches(ctx, maxBatchEvents)
	if err != nil {
		return err
	}
	ended := maps.Clone(c.batches)
	for _, b := range batches {
		delete(ended, b.ID)
	}
	if len(ended) > 0 {
		done, err := c.server.DB.BatchesByID(ctx, slices.Collect(maps.Keys(ended)))
		if err != nil {
			return err
		}
		batches = append(batches, done...)
	}
	c.nextBatches = nextCountTime(began)
	sent := map[uuid.UUID][]byte{}
	var changed []photo.Batch
	for _, b := range batches {
		data := encodeJSON(photojson.ToBatch(b))
		if !bytes.Equal(data, c.batches[b.ID]) {
			changed = append(changed, b)
		}
		if b.DoneAt.IsZero() {
			sent[b.ID] = data
		}
	}
	c.batches = sent
	if len(changed) > 0 {
		*events = append(*events, event{"batches", encodeJSON(toBatches(changed))})
	}
	return nil
}
