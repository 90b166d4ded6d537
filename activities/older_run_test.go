package activities_test

import (
	"context"
	"fmt"
	"image/color"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

// TestAnOlderRunChangesNothing resumes an older run at each step, after a newer
// run has taken ownership of the photo or has finished it.
func TestAnOlderRunChangesNothing(t *testing.T) {
	for _, finished := range []bool{false, true} {
		t.Run(fmt.Sprintf("newer run finished=%v", finished), func(t *testing.T) {
			b := setup(t)
			old, newer := b.run, b.nextRun()
			b.mark(t, old)

			takeOver := func() {
				b.mark(t, newer)
				_, err := b.make(newer)
				require.NoError(t, err)
				if finished {
					require.NoError(t, b.finish(newer, nil))
				}
			}
			// The older run stalls after it has rendered a picture of another
			// size and content.
			b.serve(picture(t, 200, 300, color.Black))
			b.onceRendered(func() {
				b.serve(picture(t, 300, 200, color.White))
				takeOver()
			})
			_, err := b.make(old)
			requireType(t, err, activities.Superseded, false)
			before := b.get(t)
			require.Equal(t, photo.Size{Width: 100, Height: 67}, before.Thumbnails[0].Size, "the newer run's")

			_, err = b.env.ExecuteActivity(b.MarkProcessing, activities.MarkProcessingInput{StepInput: step(old)})
			requireType(t, err, activities.Superseded, false)
			_, err = b.make(old)
			requireType(t, err, activities.Superseded, false)
			requireType(t, b.finish(old, photo.Fail(photo.Canceled, "late")), activities.Superseded, false)

			require.Equal(t, before, b.get(t))
			if !finished {
				require.NoError(t, b.finish(newer, nil))
			}
			b.requireExact(t)
		})
	}
}

// stalling is a renderer that calls stall after it has rendered.
type stalling struct {
	activities.Renderer
	stall func()
}

func (s stalling) Render(ctx context.Context, source renderer.Source) (photo.Rendering, error) {
	made, err := s.Renderer.Render(ctx, source)
	s.stall()
	return made, err
}

// onceRendered stalls the next attempt after it has rendered, until do has
// returned. Attempts that do makes are not stalled.
func (b *testBundle) onceRendered(do func()) {
	usual := b.Renderer
	b.Renderer = stalling{usual, func() {
		b.Renderer = usual
		do()
	}}
}
