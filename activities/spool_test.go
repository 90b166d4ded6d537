package activities

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpool(t *testing.T) {
	t.Parallel()
	content := make([]byte, 3*chunkBytes+1000)
	random := rand.NewChaCha8([32]byte{})
	_, err := random.Read(content)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		memory int64
		bytes  int
		inFile bool
	}{
		"nothing":               {10 * chunkBytes, 0, false},
		"a chunk":               {chunkBytes, chunkBytes, false},
		"all in memory":         {4 * chunkBytes, len(content), false},
		"memory runs short":     {2 * chunkBytes, len(content), true},
		"no memory":             {0, len(content), true},
		"less than one chunk's": {chunkBytes - 1, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spool := NewSpool(t.TempDir(), c.memory)
			for range 2 { // what one took, the next has again
				s := &spooled{spool: spool}
				n, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{bytes.NewReader(content[:c.bytes])}, make([]byte, 70_001))
				require.NoError(t, err)
				require.EqualValues(t, c.bytes, n)
				require.Equal(t, c.inFile, s.file != nil)
				if c.inFile {
					require.Empty(t, s.chunks)
				}
				s.Bytes = n
				for range 2 { // a renderer may ask again
					source, err := s.forRenderer().Open(t.Context())
					require.NoError(t, err)
					got, err := io.ReadAll(source)
					require.NoError(t, err)
					require.Equal(t, content[:c.bytes], got)
				}
				require.NoError(t, s.Close())
			}
			require.True(t, spool.memory.TryAcquire(c.memory/chunkBytes))
		})
	}
}

func TestSpoolWithoutADirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	s := &spooled{spool: NewSpool(dir, chunkBytes)}
	n, err := s.Write(make([]byte, chunkBytes+1))
	require.Error(t, err)
	require.Equal(t, chunkBytes, n)
	require.NoError(t, s.Close())
	require.True(t, s.spool.memory.TryAcquire(1))
}
