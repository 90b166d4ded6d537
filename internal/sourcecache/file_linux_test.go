package sourcecache

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestAFileNeverHasAName has the kernel tell of every name in the directory:
// a worker may be killed at any moment, and what has a name then stays.
func TestAFileNeverHasAName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, dir, unix.IN_CREATE|unix.IN_DELETE)
	require.NoError(t, err)

	file, err := newFile(dir)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.WriteString("bytes of a source")
	require.NoError(t, err)
	content := make([]byte, 5)
	_, err = file.ReadAt(content, 0)
	require.NoError(t, err)
	require.Equal(t, "bytes", string(content))

	_, err = unix.Read(watch, make([]byte, 4096))
	require.ErrorIs(t, err, unix.EAGAIN, "no name came or went")

	require.NoError(t, os.WriteFile(dir+"/name", nil, 0o600))
	_, err = unix.Read(watch, make([]byte, 4096))
	require.NoError(t, err, "it would have been told")
}
