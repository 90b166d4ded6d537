package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/audit"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

func TestKindsOfFindings(t *testing.T) {
	forEachBucket(t, func(t *testing.T, b *testBundle) {
		_, healthy := b.add(t, small, large)
		missing, missingKeys := b.add(t, small, large)
		b.delete(t, missingKeys[0])
		b.delete(t, missingKeys[1])
		damaged, damagedKeys := b.add(t, small, large)
		b.write(t, damagedKeys[1], 0)
		replaced, replacedKeys := b.add(t, large)
		orphan := replaced.String() + "/" + newer
		b.write(t, orphan, 1)
		unknown := uuid.New()
		unknownKey := unknown.String() + "/" + large
		b.write(t, unknownKey, 0)
		foreign := []string{
			"notes.txt", "0", "z/" + large, unknown.String() + "0",
			unknown.String() + "_/fileblob123", strings.ToUpper(unknown.String()) + "/" + large, missing.String() + "/320x213-0123456789abcdef.jpg",
			missing.String() + "/320x213-0123456789abcdef-01234567.gif", missing.String() + "/a/" + large,
		}
		for _, key := range foreign {
			b.write(t, key, 1)
		}
		probe := bucket.ProbePrefix + uuid.NewString()
		b.write(t, probe, 1)

		want := []audit.Finding{
			{Kind: audit.Missing, Photo: missing, Key: missingKeys[0]},
			{Kind: audit.Missing, Photo: missing, Key: missingKeys[1]},
			{Kind: audit.Damaged, Photo: damaged, Key: damagedKeys[1]},
			{Kind: audit.Orphaned, Photo: replaced, Key: orphan},
			{Kind: audit.Orphaned, Photo: unknown, Key: unknownKey},
		}
		wantCounts := audit.Counts{
			Photos: 4, Rows: 7, Files: 7, Foreign: len(foreign),
			Missing: 2, MissingPhotos: 1, Damaged: 1, DamagedPhotos: 1, Orphaned: 2,
		}
		for _, pages := range [][2]int{{0, 0}, {1, 1}, {2, 3}, {3, 2}} {
			b.findings = nil
			b.SetPages(pages[0], pages[1])
			counts, err := b.Run(t.Context())
			require.NoError(t, err)
			require.ElementsMatch(t, want, b.findings)
			require.Equal(t, wantCounts, counts)
			require.False(t, counts.IsClean())
		}

		// Pruning deletes exactly the orphans.
		b.findings = nil
		b.SetPages(0, 0)
		b.Prune = true
		counts, err := b.Run(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, want, b.findings)
		wantCounts.Deleted = 2
		require.Equal(t, wantCounts, counts)
		left := slices.Concat(healthy, damagedKeys, replacedKeys, foreign, []string{probe})
		require.ElementsMatch(t, left, b.files(t))

		// Once the rows have their files, nothing is left to find.
		for _, key := range slices.Concat(missingKeys, damagedKeys) {
			b.write(t, key, 1)
		}
		counts, err = b.Run(t.Context())
		require.NoError(t, err)
		require.True(t, counts.IsClean())
		require.Equal(t, audit.Counts{Photos: 4, Rows: 7, Files: 7, Foreign: len(foreign)}, counts)
	})
}

// TestOrderOfKeys checks that the rows and both kinds of buckets are listed in
// the same order: no key needs a second look.
func TestOrderOfKeys(t *testing.T) {
	forEachBucket(t, func(t *testing.T, b *testBundle) {
		names := []string{
			"3x2-0000000000000000-00000000.jpg", "32x2-0000000000000000-00000000.jpg", "320x2-0000000000000000-00000000.jpg",
			"320x21-0000000000000000-00000000.jpg", "320x213-0000000000000000-00000000.jpg", "320x213-0000000000000000-00000000.webp",
			"320x213-0000000000000000-0000000a.jpg", "320x213-000000000000000a-00000000.avif", "4x4-ffffffffffffffff-ffffffff.png",
		}
		const photos = 20
		for range photos {
			id, _ := b.add(t, names...)
			b.write(t, id.String()+"-b", 1) // before the photo's files, and listed by fileblob after them
			b.write(t, id.String()+"/x", 1)
		}
		b.SetPages(7, 1000)
		counts, err := b.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, audit.Counts{Photos: photos, Rows: photos * len(names), Files: photos * len(names), Foreign: 2 * photos}, counts)
		require.Zero(t, b.keysReads.Load())
	})
}

func TestManyPages(t *testing.T) {
	forEachBucket(t, func(t *testing.T, b *testBundle) {
		const n = 2500
		ids := make([]uuid.UUID, n)
		texts, keys := make([]string, n), make([]string, n)
		for i := range ids {
			ids[i] = uuid.New()
		}
		slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
		borders := []int{0, 1, 998, 999, 1000, 1001, 1500, 1998, 1999, 2000, 2001, 2498, 2499}
		var want []audit.Finding
		for i, id := range ids {
			texts[i], keys[i] = id.String(), id.String()+"/"+large
			kind, size := audit.Kind(""), 1
			if at := slices.Index(borders, i); at >= 0 {
				kind = []audit.Kind{audit.Missing, audit.Damaged, audit.Orphaned}[at%3]
				want = append(want, audit.Finding{Kind: kind, Photo: id, Key: keys[i]})
			}
			if kind == audit.Damaged {
				size = 0
			}
			if kind != audit.Missing {
				b.write(t, keys[i], size)
			}
			if kind == audit.Orphaned {
				texts[i] = "" // no row
			}
		}
		b.exec(t, `INSERT INTO photos (uuid, url, status) SELECT id::uuid, 'https://photos.example', 'completed' FROM unnest($1::text[]) AS id WHERE id <> ''`, texts)
		b.exec(t, `INSERT INTO photo_thumbnails (photo_uuid, url, width, height)
			SELECT id::uuid, key, 320, 213 FROM unnest($1::text[], $2::text[]) AS t (id, key) WHERE id <> ''`, texts, keys)

		b.SetPages(1000, 1000)
		counts, err := b.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, b.findings, "in the order of the keys")
		require.Equal(t, audit.Counts{
			Photos: n - 4, Rows: n - 4, Files: n - 5, Missing: 5, MissingPhotos: 5, Damaged: 4, DamagedPhotos: 4, Orphaned: 4,
		}, counts)

		t.Run("canceled in the middle", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			pages := 0
			b.afterList = func() {
				if pages++; pages == 2 {
					cancel()
				}
			}
			defer func() { b.afterList = nil }()
			counts, err := b.Run(ctx)
			require.Equal(t, context.Canceled, err)
			require.Less(t, counts.Rows, n-4)
		})
		t.Run("canceled before a file is deleted", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			b.beforeKeys = cancel
			b.Prune = true
			defer func() { b.beforeKeys, b.Prune = nil, false }()
			counts, err := b.Run(ctx)
			require.Equal(t, context.Canceled, err)
			require.Zero(t, counts.Deleted)
			require.Len(t, b.files(t), n-5)
		})
	})
}

// TestARunPublishesMeanwhile lets a run write between the list of rows and the
// second look.
func TestARunPublishesMeanwhile(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, b *testBundle) audit.Counts {
		t.Helper()
		b.Prune = true
		counts, err := b.Run(t.Context())
		require.NoError(t, err)
		require.Empty(t, b.findings)
		require.True(t, counts.IsClean())
		require.Zero(t, counts.Deleted)
		return counts
	}
	once := func(do func()) func() {
		var done atomic.Bool
		return func() {
			if !done.Swap(true) {
				do()
			}
		}
	}
	t.Run("the row of a listed file", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.add(t, large)
		owner := b.mark(t)
		key := owner.Photo.String() + "/" + large
		b.write(t, key, 1)
		b.beforeKeys = once(func() {
			b.publish(t, owner, key)
			b.finish(t, owner)
		})
		require.Zero(t, run(t, b).Unsettled)
		require.EqualValues(t, 1, b.keysReads.Load())
		require.Contains(t, b.files(t), key)
	})
	t.Run("another thumbnail instead of the listed row's", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		id, keys := b.add(t, large)
		next := id.String() + "/" + newer
		pages := 0
		b.afterList = func() {
			if pages++; pages != 2 { // the first is read to check that there are rows
				return
			}
			second := photo.Run{Photo: id, ID: "second", StartedAt: time.Now().Add(time.Second)}
			_, err := b.db.MarkProcessing(t.Context(), second)
			require.NoError(t, err)
			b.write(t, next, 1)
			b.publish(t, second, next)
			b.finish(t, second)
			b.delete(t, keys[0])
		}
		require.Zero(t, run(t, b).Unsettled)
		require.EqualValues(t, 2, b.keysReads.Load(), "of the old key and of the new one")
		require.Equal(t, []string{next}, b.files(t))
	})
	t.Run("the missing file", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		_, keys := b.add(t, small, large)
		b.delete(t, keys[1])
		b.SetPages(1, 1)
		pages := 0
		b.afterList = func() {
			if pages++; pages == 4 { // after the last row
				b.write(t, keys[1], 1)
			}
		}
		run(t, b)
		require.Equal(t, 4, pages)
	})
	t.Run("the orphan is deleted", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		id, _ := b.add(t, large)
		orphan := id.String() + "/" + small
		b.write(t, orphan, 1)
		b.SetPages(1, 1000)
		pages := 0
		b.afterList = func() {
			if pages++; pages == 3 { // after both files are listed
				b.delete(t, orphan)
			}
		}
		run(t, b)
		require.Equal(t, 3, pages)
	})
	t.Run("nothing yet", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.add(t, large)
		owner := b.mark(t)
		key := owner.Photo.String() + "/" + large
		b.write(t, key, 1)
		require.Equal(t, 1, run(t, b).Unsettled, "a photo that is processing")
		require.Contains(t, b.files(t), key)
	})
}

func TestMinAge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, _ := b.add(t, large)
	young, old := id.String()+"/"+small, id.String()+"/"+newer
	b.write(t, young, 1)
	b.write(t, old, 1)
	long := time.Now().Add(-audit.DefaultMinAge - time.Minute)
	require.NoError(t, os.Chtimes(b.dir+"/"+old, long, long))
	b.MinAge = audit.DefaultMinAge
	b.Prune = true
	counts, err := b.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, audit.Counts{Photos: 1, Rows: 1, Files: 3, Orphaned: 1, Deleted: 1, Unsettled: 1}, counts)
	require.NotContains(t, b.files(t), old)
	require.Contains(t, b.files(t), young)
}

// TestKeysOfNoWorker has rows of the first schema, which may have any key.
func TestKeysOfNoWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, _ := b.add(t, large)
	keys := []string{"thumbnails/1.jpg", "A", first.String() + "/small.jpg", "absent.jpg", "zz/absent.jpg"}
	var second uuid.UUID
	for i, key := range keys {
		second, _ = b.add(t)
		b.exec(t, `INSERT INTO photo_thumbnails (photo_uuid, url, width, height) VALUES ($1, $2, 1, 1)`, second, key)
		if i < 3 {
			b.write(t, key, 1)
		}
	}
	for _, pages := range []int{1, 2, 1000} {
		b.findings = nil
		b.SetPages(pages, pages)
		counts, err := b.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, audit.Counts{Photos: 6, Rows: 6, Files: 1, Foreign: 3, Missing: 2, MissingPhotos: 2}, counts)
		require.EqualValues(t, 2, b.keysReads.Swap(0), "the other keys have files")
		for _, f := range b.findings {
			require.Contains(t, keys[3:], f.Key)
		}
	}
}

func TestPruneNeedsRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := uuid.NewString() + "/" + large
	b.write(t, key, 1)
	b.Prune = true
	_, err := b.Run(t.Context())
	require.ErrorIs(t, err, audit.ErrNoRows)
	require.Equal(t, []string{key}, b.files(t))
}

func TestErrors(t *testing.T) {
	t.Run("no PostgreSQL", func(t *testing.T) {
		b := setup(t)
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 1)
		require.NoError(t, err)
		defer db.Close()
		b.DB = db
		_, err = b.Run(t.Context())
		require.ErrorIs(t, err, postgres.ErrUnavailable)
		require.ErrorContains(t, err, "list thumbnails: ")
	})
	t.Run("the directory disappears", func(t *testing.T) {
		b := setup(t)
		b.add(t, large)
		require.NoError(t, os.RemoveAll(b.dir))
		counts, err := b.Run(t.Context())
		_, ok := errors.AsType[*audit.BucketError](err)
		require.True(t, ok, "%v", err)
		require.Zero(t, counts.Missing)
	})
	t.Run("no S3 server", func(t *testing.T) {
		s3, stop, err := devstacktest.S3(t.Context())
		require.NoError(t, err)
		defer stop()
		s3.Setenv(t)
		b := setupBucket(t, s3.BucketURL("nobodys"))
		_, err = b.Run(t.Context())
		_, ok := errors.AsType[*audit.BucketError](err)
		require.True(t, ok, "%v", err)
	})
	t.Run("of the report", func(t *testing.T) {
		b := setup(t)
		_, keys := b.add(t, small, large)
		b.delete(t, keys[0])
		b.delete(t, keys[1])
		full := errors.New("the disk is full")
		reports := 0
		b.Report = func(audit.Finding) error { reports++; return full }
		_, err := b.Run(t.Context())
		require.ErrorIs(t, err, full)
		require.Equal(t, 1, reports)
	})
}

// TestAnEmptyBucket makes every row a candidate: more than one batch of them.
func TestAnEmptyBucket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO photos (url, status) SELECT 'https://photos.example', 'completed' FROM generate_series(1, 3000)`)
	b.exec(t, fmt.Sprintf(`INSERT INTO photo_thumbnails (photo_uuid, url, width, height) SELECT uuid, uuid || '/%s', 1, 1 FROM photos`, large))
	counts, err := b.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, audit.Counts{Photos: 3000, Rows: 3000, Missing: 3000, MissingPhotos: 3000}, counts)
}
