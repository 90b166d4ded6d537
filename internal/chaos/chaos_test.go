package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	temporalclient "go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"
)

var (
	seeds = flag.Int("seeds", 0, "how many seeds TestChaos tries at full length; 0: one, in the short form")
	seed  = flag.Uint64("seed", 0, "the first seed; 0: a random one")
)

// endTime is what a batch may take from its last post or fault to its end: the
// heartbeat time-out of a lost worker, the pauses after three bad answers, and
// the restarts, several times.
const endTime = 4 * time.Minute

// TestChaos processes a batch while all that it stands on breaks. Afterwards the
// auditor must have nothing to say.
func TestChaos(t *testing.T) {
	t.Parallel()
	first, number, scale := *seed, max(*seeds, 1), whole
	if *seeds == 0 {
		scale = short
	}
	if first == 0 {
		first = rand.Uint64N(1_000_000) + 1
	}
	for i := range uint64(number) {
		seed := first + i
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			b := process(t, draw(seed, scale))
			violations, err := b.auditor.audit(t.Context())
			require.NoError(t, err)
			for _, violation := range violations {
				t.Errorf("seed %d: %s", seed, violation)
			}
			if len(violations) > 0 {
				require.NoError(t, os.CopyFS(t.ArtifactDir(), os.DirFS(b.auditor.logs)))
			}
		})
	}
}

// batch is what was processed, and who may tell whether well.
type batch struct {
	*stack
	auditor *auditor
	ids     []uuid.UUID // by number
}

// process takes a batch through what the plan has for it, and returns when all
// that was accepted has come to an end, or should have.
func process(t *testing.T, p plan) *batch {
	t.Helper()
	t.Log(p)
	sources := serveSources(t, p)
	b := &batch{stack: start(t)}
	db, err := pgx.Connect(t.Context(), b.postgres.DSN())
	require.NoError(t, err)
	for number := range p.photos {
		var id uuid.UUID
		require.NoError(t, db.QueryRow(t.Context(), `INSERT INTO photos (url) VALUES ($1) RETURNING uuid`, sources.url(number)).Scan(&id))
		b.ids = append(b.ids, id)
	}
	require.NoError(t, db.Close(t.Context()))
	for range p.missing {
		b.ids = append(b.ids, uuid.New())
	}

	client := &client{api: b.api, accepted: map[uuid.UUID]bool{}, posts: map[uuid.UUID]int{}}
	havoc := &havoc{stack: b.stack}
	began := time.Now()
	b.letLoose(t, p, client, havoc)
	t.Logf("seed %d: all is posted, and nothing breaks any more, after %.1f s", p.seed, time.Since(began).Seconds())

	temporal, err := temporalclient.Dial(temporalclient.Options{HostPort: b.temporal.Address()})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	db, err = pgx.Connect(t.Context(), b.postgres.DSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(t.Context())) })
	b.auditor = &auditor{
		db: db, temporal: temporal, api: b.api, bucket: b.bucket, sources: b.sources, logs: filepath.Dir(b.dir.Log("api")),
		boxes: boxes, closeTime: endTime, photos: map[uuid.UUID]expected{}, batches: client.batches,
	}
	for id := range client.accepted {
		b.auditor.photos[id] = expected{accepted: true}
	}
	_, err = b.auditor.auditWorkflows(t.Context())
	require.NoError(t, err)
	b.auditor.closeTime = 10 * time.Second // for what has not closed by now, and for the list's delay

	for number, id := range b.ids {
		want := expected{row: number < p.photos, posts: client.posts[id], accepted: client.accepted[id]}
		if want.row {
			source := sources.all[number]
			want.versions, want.fails = source.versions[:], source.code
			if source.badSoFar() >= 5 {
				want.excuses = append(want.excuses, "source_unavailable")
			}
			if havoc.renderers.Load() >= 2 {
				want.excuses = append(want.excuses, "render_crashed")
			}
		}
		b.auditor.photos[id] = want
	}
	b.tell(t, p, sources, havoc, time.Since(began))
	return b
}

// letLoose posts what the plan posts while it breaks what the plan breaks, and
// returns when both are over.
func (b *batch) letLoose(t *testing.T, p plan, client *client, havoc *havoc) {
	t.Helper()
	began := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	for _, f := range p.faults {
		group.Go(func() error {
			if err := waitUntil(ctx, began.Add(f.at)); err != nil {
				return err
			}
			return havoc.inflict(ctx, f)
		})
	}
	for _, post := range p.posts {
		group.Go(func() error {
			if err := waitUntil(ctx, began.Add(post.at)); err != nil {
				return err
			}
			var ids []uuid.UUID
			for _, number := range post.photos {
				ids = append(ids, b.ids[number])
			}
			return client.post(ctx, ids, func() {
				if post.kill > 0 {
					kill := post.kill
					group.Go(func() error {
						_ = waitUntil(ctx, time.Now().Add(kill))
						havoc.kill("api", 100*time.Millisecond)
						return nil
					})
					post.kill = 0 // the next attempt may succeed
				}
			})
		})
	}
	require.NoError(t, group.Wait())
	// What was killed last may still be away.
	require.Eventually(t, func() bool {
		for _, worker := range workers {
			if havoc.pid(worker) == 0 {
				return false
			}
		}
		return b.ready()
	}, endTime, 50*time.Millisecond, "not all is running again")
}

// tell logs how a batch went: what was excused, too.
func (b *batch) tell(t *testing.T, p plan, sources *sources, havoc *havoc, took time.Duration) {
	t.Helper()
	rows, err := b.auditor.rows(t.Context())
	require.NoError(t, err)
	ended := map[string]int{}
	for number, id := range b.ids[:p.photos] {
		row := rows[id]
		end := strings.TrimSpace(row.status + " " + row.code)
		if row.status == "failed" && row.code != sources.all[number].code {
			end += " (by chaos)"
		}
		ended[end]++
	}
	bad := 0
	for _, s := range sources.all {
		bad += s.badSoFar()
	}
	t.Logf("seed %d: %.1f s, %d bad answers of sources, %d renderers killed; the photos: %v",
		p.seed, took.Seconds(), bad, havoc.renderers.Load(), ended)
}
