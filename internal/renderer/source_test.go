package renderer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

func TestStalledSource(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{Timeout: time.Second}, "")
	whole := small(t)
	_, err := b.Renderer.Render(t.Context(), renderer.Source{
		Size: int64(len(whole)),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			stalled := readerFunc(func([]byte) (int, error) {
				<-ctx.Done() // like the reader of an object store
				return 0, ctx.Err()
			})
			return io.NopCloser(io.MultiReader(bytes.NewReader(whole[:500]), stalled)), nil
		},
	})
	_, ok := errors.AsType[*renderer.SourceReadError](err)
	require.True(t, ok, "%v", err)
	require.Empty(t, photo.CodeOf(err))
	_, err = b.Render(t.Context(), whole)
	require.NoError(t, err)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestSourceReadErrors(t *testing.T) {
	t.Parallel()
	b := setup(t, renderer.Config{}, "")
	lost := errors.New("the bucket is away")
	whole := small(t)
	for name, open := range map[string]func() (io.Reader, error){
		"not opened": func() (io.Reader, error) { return nil, lost },
		"not a byte": func() (io.Reader, error) { return iotest.ErrReader(lost), nil },
		"broken off": func() (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(whole[:500]), iotest.ErrReader(lost)), nil
		},
		"cut short":   func() (io.Reader, error) { return bytes.NewReader(whole[:500]), nil },
		"with no end": nil,
	} {
		t.Run(name, func(t *testing.T) {
			if open == nil { // longer than Size, which is what counts
				open = func() (io.Reader, error) { return io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(lost)), nil }
			}
			_, err := b.Renderer.Render(t.Context(), renderer.Source{
				Size: int64(len(whole)),
				Open: func(context.Context) (io.ReadCloser, error) {
					reader, err := open()
					return io.NopCloser(reader), err
				},
			})
			switch name {
			case "with no end":
				require.NoError(t, err)
			case "cut short":
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			default:
				require.ErrorIs(t, err, lost)
			}
			require.Empty(t, photo.CodeOf(err), "an infrastructure error never fails a photo")
			_, err = b.Render(t.Context(), whole)
			require.NoError(t, err, "the next picture is not affected")
		})
	}
}
