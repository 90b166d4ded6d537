package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// testBundle is a database with one pending photo, and two runs of it.
type testBundle struct {
	db           *postgres.DB
	photo        uuid.UUID
	older, newer photo.Run
}

func setup(t *testing.T) testBundle {
	t.Helper()
	db := postgrestest.Open(t)
	added, err := db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	id := added[0].UUID
	now := time.Now()
	return testBundle{
		db: db, photo: id,
		older: photo.Run{Photo: id, ID: "older", StartedAt: now},
		newer: photo.Run{Photo: id, ID: "newer", StartedAt: now.Add(time.Second)},
	}
}

func mark(t testing.TB, db *postgres.DB, run photo.Run) error {
	return db.MarkProcessing(t.Context(), run)
}

func finish(t testing.TB, db *postgres.DB, run photo.Run, failure *photo.Failure) error {
	_, err := db.Finish(t.Context(), run, failure)
	return err
}

func (b testBundle) get(t *testing.T) photo.Photo {
	t.Helper()
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	return p
}

var (
	aSource  = photo.SourceInfo{Bytes: 7, SHA256: strings.Repeat("0a", 32), MediaType: "image/jpeg"}
	aFailure = photo.Fail(photo.SourceForbidden, "the source answered 403 Forbidden")
)

func thumbnail(width, height int, key string) photo.Thumbnail {
	return photo.Thumbnail{Size: photo.Size{Width: width, Height: height}, Key: key}
}

func TestARunFromMarkToFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, photo.Pending, b.get(t).Status)

	for range 2 { // each step may be repeated
		require.NoError(t, mark(t, b.db, b.older))
	}
	p := b.get(t)
	require.Equal(t, photo.Processing, p.Status)
	require.Equal(t, "older", p.RunID)

	url, err := b.db.SourceURL(t.Context(), b.older)
	require.NoError(t, err)
	require.Equal(t, "https://photos.example/1.jpg", url)

	for range 2 {
		require.NoError(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(320, 213, "a"), thumbnail(100, 67, "b")}))
	}
	for _, want := range []bool{true, false} {
		first, err := b.db.Finish(t.Context(), b.older, nil)
		require.NoError(t, err)
		require.Equal(t, want, first)
	}
	p = b.get(t)
	require.Equal(t, photo.Completed, p.Status)
	require.Nil(t, p.Failure)
	require.Len(t, p.Thumbnails, 2)
	require.Equal(t, "b", p.Thumbnails[0].Key, "by width")
	require.Equal(t, photo.Size{Width: 320, Height: 213}, p.Thumbnails[1].Size)
}

func TestFailureIsKeptUntilTheNextRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	require.NoError(t, finish(t, b.db, b.older, aFailure))
	p := b.get(t)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, aFailure, p.Failure)

	require.NoError(t, finish(t, b.db, b.older, nil), "finishing again")
	require.Equal(t, photo.Failed, b.get(t).Status, "changes nothing")

	require.NoError(t, mark(t, b.db, b.newer))
	p = b.get(t)
	require.Equal(t, photo.Processing, p.Status)
	require.Nil(t, p.Failure)
}

func TestARunThatNeverMarkedCanFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, finish(t, b.db, b.older, photo.Fail(photo.Canceled, "processing was canceled")))
	p := b.get(t)
	require.Equal(t, photo.Failed, p.Status)
	require.Equal(t, photo.Canceled, p.Failure.Code)
	require.NoError(t, mark(t, b.db, b.older), "its late mark")
	require.Equal(t, photo.Failed, b.get(t).Status, "changes nothing")
}

// TestARunThatStartsAgain has a run whose first workflow task was lost mark the
// photo again, and then the one that was thought lost wake up.
func TestARunThatStartsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	again := b.older
	again.StartedAt = again.StartedAt.Add(time.Millisecond)
	for _, run := range []photo.Run{b.older, b.older, again, again} {
		require.NoError(t, mark(t, b.db, run))
	}
	require.NoError(t, mark(t, b.db, b.older), "its late mark")
	_, err := b.db.SourceURL(t.Context(), again)
	require.NoError(t, err, "changes nothing")
	require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "late")}), photo.ErrSuperseded)
	first, err := b.db.Finish(t.Context(), b.older, aFailure)
	require.NoError(t, err)
	require.False(t, first)
	require.Equal(t, photo.Processing, b.get(t).Status)

	require.NoError(t, finish(t, b.db, again, nil))
	again.StartedAt = again.StartedAt.Add(time.Millisecond)
	require.NoError(t, finish(t, b.db, again, aFailure), "cancelled after its end")
	require.Equal(t, photo.Completed, b.get(t).Status)
	require.NoError(t, mark(t, b.db, again))
	require.Equal(t, photo.Processing, b.get(t).Status, "the task was lost after its last step: it is done again")
}

func TestAnOlderRunChangesNothing(t *testing.T) {
	t.Parallel()
	for _, newerIs := range []string{"processing", "finished"} {
		t.Run(newerIs, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, mark(t, b.db, b.older))
			require.NoError(t, mark(t, b.db, b.newer))
			require.NoError(t, b.db.PublishThumbnails(t.Context(), b.newer, aSource, []photo.Thumbnail{thumbnail(320, 213, "newer")}))
			if newerIs == "finished" {
				require.NoError(t, finish(t, b.db, b.newer, nil))
			}
			before := b.get(t)

			require.ErrorIs(t, mark(t, b.db, b.older), photo.ErrSuperseded)
			_, err := b.db.SourceURL(t.Context(), b.older)
			require.ErrorIs(t, err, photo.ErrSuperseded)
			require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "older")}), photo.ErrSuperseded)
			require.ErrorIs(t, finish(t, b.db, b.older, aFailure), photo.ErrSuperseded)

			require.Equal(t, before, b.get(t))
		})
	}
}

func TestPublishThumbnailsAfterFinishChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	require.NoError(t, finish(t, b.db, b.older, aFailure))
	require.ErrorIs(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "late")}), photo.ErrSuperseded)
	require.Empty(t, b.get(t).Thumbnails)
}

func TestPublishThumbnailsReplacesWhatIsStale(t *testing.T) {
	t.Parallel()
	b := setup(t)
	publish := func(run photo.Run, thumbnails ...photo.Thumbnail) []photo.Thumbnail {
		t.Helper()
		require.NoError(t, mark(t, b.db, run))
		require.NoError(t, b.db.PublishThumbnails(t.Context(), run, aSource, thumbnails))
		require.NoError(t, finish(t, b.db, run, nil))
		return b.get(t).Thumbnails
	}
	first := publish(b.older, thumbnail(100, 67, "small"), thumbnail(320, 213, "large"))
	second := publish(b.newer, thumbnail(320, 213, "large"), thumbnail(640, 427, "huge"))
	require.Len(t, second, 2)
	require.Equal(t, first[1], second[0], "a row that is right stays as it is")
	require.Equal(t, "huge", second[1].Key)

	newest := b.newer
	newest.ID, newest.StartedAt = "newest", newest.StartedAt.Add(time.Second)
	third := publish(newest, thumbnail(320, 213, "large, but of other content"))
	require.Len(t, third, 1)
	require.Equal(t, "large, but of other content", third[0].Key)
}

func TestPublishThumbnailsFromTwoAttemptsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			return b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(320, 213, "a"), thumbnail(100, 67, "b")})
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, b.get(t).Thumbnails, 2)
}

func TestAPhotoThatDoesNotExist(t *testing.T) {
	t.Parallel()
	b := setup(t)
	missing := photo.Run{Photo: uuid.New(), ID: "run", StartedAt: time.Now()}
	require.ErrorIs(t, mark(t, b.db, missing), photo.ErrNotFound)
	require.ErrorIs(t, finish(t, b.db, missing, nil), photo.ErrNotFound)
	_, err := b.db.Photo(t.Context(), missing.Photo)
	require.ErrorIs(t, err, photo.ErrNotFound)
	require.ErrorIs(t, b.db.WithPhotoLocked(t.Context(), missing.Photo, func(postgres.Locked) error { return nil }), photo.ErrNotFound)
}

func TestWithPhotoLockedHoldsRunsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, mark(t, b.db, b.older))
	require.NoError(t, b.db.PublishThumbnails(t.Context(), b.older, aSource, []photo.Thumbnail{thumbnail(1, 1, "a")}))
	marked := make(chan error, 1)
	err := b.db.WithPhotoLocked(t.Context(), b.photo, func(held postgres.Locked) error {
		require.Equal(t, postgres.Locked{Status: photo.Processing, Keys: []string{"a"}}, held)
		go func() { marked <- mark(t, b.db, b.newer) }()
		// It waits for our lock: PostgreSQL itself says so.
		require.Eventually(t, func() bool { return waiting(t, b.db) }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, "older", b.get(t).RunID)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, <-marked)
	require.Equal(t, "newer", b.get(t).RunID)
}

func waiting(t *testing.T, db *postgres.DB) bool {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowForTest(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n))
	return n > 0
}

func TestPhotosPageThroughAll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var urls []string
	for i := range 25 {
		urls = append(urls, fmt.Sprintf("https://photos.example/%d.jpg", i))
	}
	_, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	// All but the first have the same created_at: only the UUID orders them.
	_, err = b.db.ExecForTest(t.Context(), `UPDATE photos SET created_at = now() WHERE uuid <> $1`, b.photo)
	require.NoError(t, err)

	seen := map[uuid.UUID]bool{}
	var after postgres.Cursor
	for pages := 0; ; pages++ {
		page, err := b.db.Photos(t.Context(), photo.Pending, after, 10)
		require.NoError(t, err)
		if len(page) == 0 {
			require.Equal(t, 3, pages)
			break
		}
		for i, p := range page {
			require.False(t, seen[p.UUID], "seen before")
			seen[p.UUID] = true
			require.False(t, i > 0 && p.CreatedAt.Before(page[i-1].CreatedAt), "oldest first")
		}
		last := page[len(page)-1]
		after = postgres.Cursor{CreatedAt: last.CreatedAt, UUID: last.UUID}
	}
	require.Len(t, seen, 26)
	empty, err := b.db.Photos(t.Context(), photo.Failed, postgres.Cursor{}, 10)
	require.NoError(t, err)
	require.Empty(t, empty)
}

func TestAddPhotosKeepsTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	urls := []string{"https://photos.example/z.jpg", "https://photos.example/a.jpg", "https://photos.example/a.jpg"}
	added, err := b.db.AddPhotos(t.Context(), urls)
	require.NoError(t, err)
	for i, p := range added {
		require.Equal(t, urls[i], p.URL)
		require.Equal(t, photo.Pending, p.Status)
	}
	_, err = b.db.AddPhotos(t.Context(), []string{"https://photos.example/b.jpg", ""})
	require.ErrorContains(t, err, "photos__url_check")
	all, err := b.db.Photos(t.Context(), photo.Pending, postgres.Cursor{}, 100)
	require.NoError(t, err)
	require.Len(t, all, 4, "all or none")
	for i, p := range added {
		require.Equal(t, p.UUID, all[1+i].UUID, "the list has the same order")
	}
}

func TestPingWantsTheSchema(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	db, err := postgres.Open(url, 2)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Ping(t.Context()))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `DROP TABLE photos CASCADE`)
	require.NoError(t, err)
	require.ErrorContains(t, db.Ping(t.Context()), "photos")
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		db, err := postgres.Open("postgres://photos@127.0.0.1:1/photos", 2)
		require.NoError(t, err, "opening does not connect")
		defer db.Close()
		require.ErrorIs(t, db.Ping(t.Context()), postgres.ErrUnavailable)
		require.ErrorIs(t, mark(t, db, photo.Run{}), postgres.ErrUnavailable)
	})
	t.Run("the server ends the connection", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		var err error
		lockErr := b.db.WithPhotoLocked(t.Context(), b.photo, func(postgres.Locked) error {
			_, err = killOthers(t, b.db)
			return err
		})
		require.NoError(t, err)
		require.ErrorIs(t, lockErr, postgres.ErrUnavailable)
		require.NoError(t, mark(t, b.db, b.older), "the pool recovers")
	})
	t.Run("a read outlives that", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		var group errgroup.Group
		for range 8 { // as many connections as the pool has
			group.Go(func() error {
				_, err := b.db.Photo(t.Context(), b.photo)
				return err
			})
		}
		require.NoError(t, group.Wait())
		_, err := killOthers(t, b.db)
		require.NoError(t, err)
		_, err = b.db.Photo(t.Context(), b.photo)
		require.NoError(t, err)
		_, err = b.db.Photos(t.Context(), photo.Pending, postgres.Cursor{}, 10)
		require.NoError(t, err)
	})
	t.Run("time is up", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		err := b.db.MarkProcessing(ctx, b.older)
		require.ErrorIs(t, err, postgres.ErrUnavailable)
	})
	t.Run("cancelled is not unavailable", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := b.db.MarkProcessing(ctx, b.older)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, errors.Is(err, postgres.ErrUnavailable))
	})
}

// killOthers ends the database's other connections, as a restart would.
func killOthers(t *testing.T, db *postgres.DB) (killed int, err error) {
	t.Helper()
	err = db.QueryRowForTest(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&killed)
	return killed, err
}
