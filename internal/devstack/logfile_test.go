package devstack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenLog(t *testing.T) {
	t.Parallel()

	t.Run("appends", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "logs", "server.log")
		for i, line := range []string{"one\n", "two\n"} {
			log, start, err := openLog(path)
			require.NoError(t, err)
			require.EqualValues(t, i*len("one\n"), start)
			_, err = log.WriteString(line)
			require.NoError(t, err)
			require.NoError(t, log.Close())
		}
		require.Equal(t, "one\ntwo\n", readFile(t, path))
	})

	for _, tt := range []struct {
		name    string
		size    int64
		rotated bool
	}{
		{"keeps a log of the largest size", maxLogBytes, false},
		{"puts a larger one in the place of the older one", maxLogBytes + 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "server.log")
			require.NoError(t, os.WriteFile(path, nil, 0o600))
			require.NoError(t, os.Truncate(path, tt.size))
			require.NoError(t, os.WriteFile(path+".1", []byte("older"), 0o600))

			log, start, err := openLog(path)
			require.NoError(t, err)
			require.NoError(t, log.Close())
			older, err := os.Stat(path + ".1")
			require.NoError(t, err)
			if tt.rotated {
				require.Zero(t, start)
				require.Equal(t, tt.size, older.Size())
			} else {
				require.Equal(t, tt.size, start)
				require.EqualValues(t, len("older"), older.Size())
			}
		})
	}
}

func TestQuoteLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server.log")
	require.Empty(t, quoteLog(path, 0))

	require.NoError(t, os.WriteFile(path, []byte("earlier\n"), 0o600))
	require.Equal(t, "; it wrote nothing to "+path, quoteLog(path, int64(len("earlier\n"))))

	lines := strings.Repeat("line\n", quotedLogLines+5)
	require.NoError(t, os.WriteFile(path, []byte(lines+"the end\n"), 0o600))
	quoted := quoteLog(path, 0)
	require.Equal(t, quotedLogLines, strings.Count(quoted, "\n\t"))
	require.True(t, strings.HasSuffix(quoted, "\n\tline\n\tthe end"), quoted)

	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", 10*quotedLogBytes)), 0o600))
	require.Less(t, len(quoteLog(path, 0)), 2*quotedLogBytes)
}
