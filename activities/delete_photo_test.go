package activities_test

import (
	"image/color"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// delete deletes the rows of the photo, and its files.
func (b *testBundle) delete(t *testing.T) {
	t.Helper()
	for _, step := range []any{b.DeleteRows, b.DeleteFiles} {
		_, err := b.env.ExecuteActivity(step, activities.DeletePhotoInput{Photo: b.photo})
		require.NoError(t, err)
	}
}

func TestDeletePhoto(t *testing.T) {
	b := setup(t)
	b.fit(photo.Box{Width: 320, Height: 320})
	b.serve(picture(t, 640, 426, color.White))
	b.process(t, b.run)
	require.NotEmpty(t, b.files(t))
	b.delete(t)
	b.delete(t) // again, without effect
	_, err := b.DB.Photo(t.Context(), b.photo)
	require.ErrorIs(t, err, photo.ErrNotFound)
	require.Empty(t, b.files(t))
}

// TestDeletePhotoWhileItIsProcessing deletes a photo between the steps of a run,
// which goes on: it leaves neither a row nor a file.
func TestDeletePhotoWhileItIsProcessing(t *testing.T) {
	for name, before := range map[string]int{"before the fetch": 1, "before the thumbnails": 2, "before the end": 3} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.fit(photo.Box{Width: 320, Height: 320})
			b.serve(picture(t, 640, 426, color.White))
			for i, step := range []func() error{
				func() error { b.mark(t, b.run); return nil },
				func() error { _, err := b.fetch(b.run); return err },
				func() error { _, err := b.make(b.run); return err },
			} {
				if i == before {
					b.delete(t)
				}
				err := step()
				require.Equal(t, i >= before, err != nil, "step %d: %v", i+1, err)
			}
			if before == 3 {
				b.delete(t)
			}
			require.NoError(t, b.finish(b.run, nil), "there is nothing to finish")
			require.Empty(t, b.files(t))
		})
	}
}
