package postgres_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// testBundle is a database with one pending photo, and two runs of the photo.
type testBundle struct {
	db           *postgres.DB
	url          string // of the database
	photo        uuid.UUID
	older, newer photo.Run
}

func setup(t *testing.T) testBundle {
	t.Helper()
	url := postgrestest.URL(t)
	db, err := postgres.Open(url, 8)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	added, err := db.AddPhotos(t.Context(), []string{"https://photos.example/1.jpg"})
	require.NoError(t, err)
	id := added[0].UUID
	now := time.Now()
	return testBundle{
		db: db, url: url, photo: id,
		older: photo.Run{Photo: id, ID: "older", StartedAt: now},
		newer: photo.Run{Photo: id, ID: "newer", StartedAt: now.Add(time.Second)},
	}
}

func mark(t testing.TB, db *postgres.DB, run photo.Run) error {
	_, err := db.MarkProcessing(t.Context(), run)
	return err
}

func finish(t testing.TB, db *postgres.DB, run photo.Run, failure *photo.Failure) error {
	_, _, err := db.Finish(t.Context(), run, failure)
	return err
}

func (b testBundle) get(t *testing.T) photo.Photo {
	t.Helper()
	p, err := b.db.Photo(t.Context(), b.photo)
	require.NoError(t, err)
	return p
}

var (
	aPlaceholder = []byte("\x21\x08\x42\x07\x00")
	aSource      = photo.SourceInfo{Bytes: 7, SHA256: strings.Repeat("0a", 32), MediaType: "image/jpeg"}
	aFailure     = photo.Fail(photo.SourceForbidden, "the source answered 403 Forbidden")
)

func thumbnail(width, height int, key string) photo.Thumbnail {
	return photo.Thumbnail{Size: photo.Size{Width: width, Height: height}, Key: key}
}
