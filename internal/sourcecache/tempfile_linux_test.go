package sourcecache

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A temporary file never has a name, even for a moment: a worker that is killed
// then would leave the file behind. The test watches the directory with
// inotify.
func TestTempFileNeverHasAName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, dir, unix.IN_CREATE|unix.IN_DELETE)
	require.NoError(t, err)

	file, err := createTempFile(dir)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.WriteString("bytes of a source")
	require.NoError(t, err)
	content := make([]byte, 5)
	_, err = file.ReadAt(content, 0)
	require.NoError(t, err)
	require.Equal(t, "bytes", string(content))

	_, err = unix.Read(watch, make([]byte, 4096))
	require.ErrorIs(t, err, unix.EAGAIN, "a name was created or deleted")

	require.NoError(t, os.WriteFile(dir+"/name", nil, 0o600))
	_, err = unix.Read(watch, make([]byte, 4096))
	require.NoError(t, err, "the watch reports a file with a name")
}
