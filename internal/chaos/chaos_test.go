package chaos_test

import (
	"cmp"
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

// endTime bounds the time from the last post or fault to the end of the batch:
// several times the heartbeat timeout of a lost worker, the retries of three bad
// responses, and the restarts.
const endTime = 4 * time.Minute

// TestChaos processes a batch while its infrastructure breaks. Afterwards the auditor
// must find no violation.
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

// batch is a processed batch and its auditor.
type batch struct {
	*stack
	auditor *auditor
	ids     []uuid.UUID // by number
}

// process executes the plan, and returns when all accepted photos have a final
// status, or after endTime.
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

	client := &client{api: b.api, accepted: map[uuid.UUID]bool{}, deleted: map[uuid.UUID]bool{}, posts: map[uuid.UUID]int{}, locations: map[string]int{}}
	faultInjector := &faultInjector{stack: b.stack}
	began := time.Now()
	b.execute(t, p, client, faultInjector)
	t.Logf("seed %d: all is posted, and nothing breaks any more, after %.1f s", p.seed, time.Since(began).Seconds())

	temporal, err := temporalclient.Dial(temporalclient.Options{HostPort: b.temporal.Address()})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	db, err = pgx.Connect(t.Context(), b.postgres.DSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(t.Context())) })
	b.auditor = &auditor{
		db: db, temporal: temporal, api: b.api, bucket: b.bucket, sources: b.sources, logs: filepath.Dir(b.dir.Log("api")),
		boxes: boxes, closeTime: endTime, photos: map[uuid.UUID]expected{}, batches: client.batches, locations: client.locations,
	}
	for id := range client.accepted {
		b.auditor.photos[id] = expected{accepted: true}
	}
	_, err = b.auditor.auditWorkflows(t.Context())
	require.NoError(t, err)
	b.auditor.closeTime = 10 * time.Second // for the delay of the visibility store

	for number, id := range b.ids {
		want := expected{row: number < p.photos && !client.deleted[id], deleted: client.deleted[id], posts: client.posts[id], accepted: client.accepted[id]}
		if want.row {
			source := sources.all[number]
			want.versions, want.fails = source.versions[:], source.code
			if source.badSoFar() >= 5 {
				want.excuses = append(want.excuses, "source_unavailable")
			}
			if faultInjector.renderers.Load() >= 2 {
				want.excuses = append(want.excuses, "render_crashed")
			}
		}
		b.auditor.photos[id] = want
	}
	b.logResult(t, p, sources, faultInjector, time.Since(began))
	return b
}

// execute runs the plan's posts and faults, and returns when all are over.
func (b *batch) execute(t *testing.T, p plan, client *client, faultInjector *faultInjector) {
	t.Helper()
	began := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	for _, f := range p.faults {
		group.Go(func() error {
			if err := waitUntil(ctx, began.Add(f.at)); err != nil {
				return err
			}
			return faultInjector.inject(ctx, f)
		})
	}
	for _, d := range p.deletes {
		group.Go(func() error {
			if err := waitUntil(ctx, began.Add(d.at)); err != nil {
				return err
			}
			return client.delete(ctx, b.ids[d.photo])
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
						faultInjector.kill("api", 100*time.Millisecond)
						return nil
					})
					post.kill = 0 // the next attempt may succeed
				}
			})
		})
	}
	require.NoError(t, group.Wait())
	// The process killed last may not be back yet.
	require.Eventually(t, func() bool {
		for _, worker := range workers {
			if faultInjector.pid(worker) == 0 {
				return false
			}
		}
		return b.ready()
	}, endTime, 50*time.Millisecond, "not all is running again")
}

// logResult logs the result of a batch, also excused failures.
func (b *batch) logResult(t *testing.T, p plan, sources *sources, faultInjector *faultInjector, took time.Duration) {
	t.Helper()
	rows, err := b.auditor.rows(t.Context())
	require.NoError(t, err)
	ended := map[string]int{}
	for number, id := range b.ids[:p.photos] {
		row := rows[id]
		end := cmp.Or(strings.TrimSpace(row.status+" "+row.code), "deleted")
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
		p.seed, took.Seconds(), bad, faultInjector.renderers.Load(), ended)
}
