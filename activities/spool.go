package activities

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer"
)

// Spool is where sources are that wait to be rendered: in memory, as far as
// there is some to spare, because a file costs as much CPU as fetching it; else
// in files, because together they could be gigabytes.
type Spool struct {
	dir    string
	memory *semaphore.Weighted // in chunks
}

// chunkBytes is the unit in which sources take memory.
const chunkBytes = 256 << 10

type chunk [chunkBytes]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// NewSpool makes a spool that has up to as many bytes in memory, and what is
// beyond in files in the directory.
func NewSpool(dir string, memory int64) *Spool {
	return &Spool{dir: dir, memory: semaphore.NewWeighted(memory / chunkBytes)}
}

// spooled is a source that is being fetched, or has been.
type spooled struct {
	photo.Source
	spool  *Spool
	chunks []*chunk // all but the last are full
	last   int      // bytes in the last of them
	file   *os.File // has it all, if it is there
}

// Write adds to the source. Its errors are the directory's.
func (s *spooled) Write(p []byte) (n int, err error) {
	for s.file == nil && n < len(p) {
		if len(s.chunks) == 0 || s.last == chunkBytes {
			if !s.spool.memory.TryAcquire(1) {
				if err := s.moveToFile(); err != nil {
					return n, err
				}
				break
			}
			s.chunks, s.last = append(s.chunks, chunks.Get().(*chunk)), 0
		}
		copied := copy(s.chunks[len(s.chunks)-1][s.last:], p[n:])
		s.last += copied
		n += copied
	}
	if n == len(p) {
		return n, nil
	}
	written, err := s.file.Write(p[n:])
	return n + written, err
}

func (s *spooled) moveToFile() error {
	file, err := newSpoolFile(s.spool.dir)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, s.inMemory()); err != nil {
		_ = file.Close()
		return err
	}
	s.freeMemory()
	s.file = file
	return nil
}

// inMemory gives what is in memory.
func (s *spooled) inMemory() io.Reader {
	readers := make([]io.Reader, len(s.chunks))
	for i, c := range s.chunks {
		readers[i] = bytes.NewReader(c[:])
		if i == len(s.chunks)-1 {
			readers[i] = bytes.NewReader(c[:s.last])
		}
	}
	return io.MultiReader(readers...)
}

func (s *spooled) freeMemory() {
	for _, c := range s.chunks {
		chunks.Put(c)
	}
	s.spool.memory.Release(int64(len(s.chunks)))
	s.chunks = nil
}

// Close lets go of the source.
func (s *spooled) Close() error {
	s.freeMemory()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// forRenderer hands the bytes to the renderer, as often as it asks for them.
func (s *spooled) forRenderer() renderer.Source {
	return renderer.Source{Size: s.Bytes, Open: func(context.Context) (io.ReadCloser, error) {
		if s.file == nil {
			return io.NopCloser(s.inMemory()), nil
		}
		return io.NopCloser(io.NewSectionReader(s.file, 0, s.Bytes)), nil
	}}
}

// newSpoolFile makes a file without a name: on Linux it never has one, where the
// file system knows how. It is gone when it is closed, or the worker dies.
// Elsewhere a worker that is killed within microseconds leaves an empty one behind.
func newSpoolFile(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if file, err := newNamelessFile(dir); err == nil {
		return file, nil
	}
	file, err := os.CreateTemp(dir, "source-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
