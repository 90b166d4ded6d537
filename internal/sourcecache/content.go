package sourcecache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/photo-processor/photo-processor/internal/renderer"
)

// chunkBytes is the size of the chunks in which memory is allocated.
const chunkBytes = 256 << 10

type chunk [chunkBytes]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// Write appends to the source; only the fetch function may call it. Its errors
// are those of the temporary file, and the disk limit.
func (s *Source) Write(p []byte) (n int, err error) {
	for s.file == nil && n < len(p) {
		if len(s.chunks) == 0 || s.lastBytes == chunkBytes {
			if !s.allocateChunk() {
				if err := s.spillToFile(); err != nil {
					return n, err
				}
				break
			}
		}
		copied := copy(s.chunks[len(s.chunks)-1][s.lastBytes:], p[n:])
		s.lastBytes += copied
		n += copied
	}
	if n == len(p) {
		return n, nil
	}
	written, err := s.writeFile(p[n:])
	return n + written, err
}

// allocateChunk adds a chunk, and returns false if MaxMemory is reached.
func (s *Source) allocateChunk() bool {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory+chunkBytes > c.config.MaxMemory {
		return false
	}
	c.memory += chunkBytes
	s.chunks, s.lastBytes = append(s.chunks, chunks.Get().(*chunk)), 0
	return true
}

// spillToFile moves the bytes in memory to a new file.
func (s *Source) spillToFile() (err error) {
	if s.file, err = createTempFile(s.cache.config.Dir); err != nil {
		return err
	}
	for _, content := range s.memoryPieces() {
		if _, err := s.writeFile(content); err != nil {
			return err
		}
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.freeMemory()
	return nil
}

func (s *Source) writeFile(p []byte) (int, error) {
	if err := s.reserveDisk(int64(len(p))); err != nil {
		return 0, err
	}
	return s.file.Write(p)
}

// reserveDisk reserves n bytes of MaxDisk for the source's file. If needed, it
// evicts the least recently used sources in files.
func (s *Source) reserveDisk(n int64) error {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.disk+n > c.config.MaxDisk {
		var oldest *Source
		for _, other := range c.sources {
			if other.users == 0 && other.file != nil && (oldest == nil || other.unusedSince.Before(oldest.unusedSince)) {
				oldest = other
			}
		}
		if oldest == nil {
			return fmt.Errorf("the source cache has %d bytes in files that are in use, and needs %d more; SOURCE_CACHE_DISK is %d", c.disk, n, c.config.MaxDisk)
		}
		oldest.remove()
	}
	c.disk += n
	s.fileBytes += n
	return nil
}

// ForRenderer returns the source's bytes in the form that the renderer reads.
// They can be opened several times, and until the source is released.
func (s *Source) ForRenderer() renderer.Source {
	return renderer.Source{Size: s.Bytes, Open: func(context.Context) (io.ReadCloser, error) {
		if s.file != nil {
			return io.NopCloser(io.NewSectionReader(s.file, 0, s.Bytes)), nil
		}
		var readers []io.Reader
		for _, content := range s.memoryPieces() {
			readers = append(readers, bytes.NewReader(content))
		}
		return io.NopCloser(io.MultiReader(readers...)), nil
	}}
}

// memoryPieces returns the bytes in memory, one slice per chunk.
func (s *Source) memoryPieces() (pieces [][]byte) {
	for i, c := range s.chunks {
		if i == len(s.chunks)-1 {
			return append(pieces, c[:s.lastBytes])
		}
		pieces = append(pieces, c[:])
	}
	return nil
}
