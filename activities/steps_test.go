package activities_test

import (
	"image/color"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestAPhotoFromMarkToFinish(t *testing.T) {
	b := setup(t)
	content := picture(t, 300, 200, color.White)
	want := infoOf(content)
	b.mark(t, b.run)
	require.Equal(t, photo.Processing, b.get(t).Status)

	for range 2 { // each step is idempotent
		fetched, err := b.fetch(b.run)
		require.NoError(t, err)
		require.Equal(t, want, fetched.SourceInfo)
	}
	require.EqualValues(t, 1, b.requests.Load(), "the source is in the cache")
	for i := range 2 {
		made, err := b.make(b.run)
		require.NoError(t, err)
		require.Equal(t, want, made.Source)
		require.Equal(t, []string{"100x67"}, made.Thumbnails)
		require.Equal(t, i == 1, made.FetchedAgain)
	}
	for range 2 {
		require.NoError(t, b.finish(b.run, nil))
	}

	p := b.get(t)
	require.Equal(t, photo.Completed, p.Status)
	require.Len(t, p.Thumbnails, 1)
	require.Equal(t, photo.Size{Width: 100, Height: 67}, p.Thumbnails[0].Size)
	b.requireExact(t)
}

func TestProcessingAgain(t *testing.T) {
	b := setup(t)
	b.fit(box, photo.Box{Width: 50, Height: 50})
	b.process(t, b.run)
	first := b.get(t).Thumbnails
	require.Len(t, first, 2)

	t.Run("changes nothing when nothing has changed", func(t *testing.T) {
		b.run = b.nextRun()
		b.process(t, b.run)
		require.Equal(t, first, b.get(t).Thumbnails)
		b.requireExact(t)
	})
	t.Run("with other sizes", func(t *testing.T) {
		b.run = b.nextRun()
		b.fit(box, photo.Box{Width: 200, Height: 200})
		b.process(t, b.run)
		second := b.get(t).Thumbnails
		require.Len(t, second, 2)
		require.Equal(t, first[1], second[0], "100x67 is as it was")
		require.Equal(t, 200, second[1].Size.Width)
		b.requireExact(t)
	})
	t.Run("with another source of the same size", func(t *testing.T) {
		b.run = b.nextRun()
		b.serve(picture(t, 300, 200, color.Black))
		before := b.get(t).Thumbnails
		b.process(t, b.run)
		after := b.get(t).Thumbnails
		require.Len(t, after, 2)
		require.NotEqual(t, before[0].Key, after[0].Key)
		b.requireExact(t)
	})
	t.Run("that fails keeps the thumbnails", func(t *testing.T) {
		b.run = b.nextRun()
		before := b.get(t).Thumbnails
		b.mark(t, b.run)
		require.NoError(t, b.finish(b.run, photo.Fail(photo.CorruptImage, "cannot be decoded")))
		p := b.get(t)
		require.Equal(t, photo.Failed, p.Status)
		require.Equal(t, photo.CorruptImage, p.Failure.Code)
		require.Equal(t, before, p.Thumbnails)
		b.requireExact(t)
	})
}

func TestAPhotoThatDoesNotExist(t *testing.T) {
	b := setup(t)
	missing := photo.Run{Photo: uuid.New(), ID: "run", StartedAt: time.Now()}
	_, err := b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(missing)})
	requireType(t, err, "PhotoNotFound", false)
	require.NoError(t, b.finish(missing, nil), "a deleted photo has no status to write")
}
