package source

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// The tests in this file run in a bubble of testing/synctest, whose clock
// advances only while all goroutines wait: sleeps take no time, and durations
// are exact. Network connections do not work in a bubble, so dialPipe replaces
// them.

// dialPipe has f connect to answer, whatever the address.
func dialPipe(t *testing.T, f *Fetcher, answer func(conn net.Conn)) {
	var servers sync.WaitGroup
	t.Cleanup(servers.Wait)
	f.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		servers.Go(func() {
			defer server.Close()
			if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
				answer(server)
			}
		})
		return client, nil
	}
}

const okHeader = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

func TestTimeout(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer  func(net.Conn)
		message string // empty if the photo arrives
		after   time.Duration
	}{
		"just in time for every limit": {
			answer: func(conn net.Conn) {
				time.Sleep(20*time.Second - 1)
				_, _ = io.WriteString(conn, okHeader)
				for range 3 {
					time.Sleep(10*time.Second - 1)
					_, _ = conn.Write(make([]byte, 10<<10))
				}
			},
			after: 50*time.Second - 4,
		},
		"no headers": {
			answer:  waitForClose,
			message: "the source did not answer within 20s",
			after:   20 * time.Second,
		},
		"headers that trickle": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
				for {
					time.Sleep(time.Second)
					if _, err := io.WriteString(conn, "X: y\r\n"); err != nil {
						return
					}
				}
			},
			message: "the source did not answer within 20s",
			after:   20 * time.Second,
		},
		"a body that stalls": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, okHeader)
				_, _ = conn.Write(make([]byte, 10<<10))
				waitForClose(conn)
			},
			message: "the source sent less than 1024 bytes per second for 10s",
			after:   10 * time.Second,
		},
		"a body that is one byte per second too slow": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, okHeader)
				for {
					time.Sleep(time.Second)
					if _, err := conn.Write(make([]byte, 1023)); err != nil {
						return
					}
				}
			},
			message: "the source sent less than 1024 bytes per second for 10s",
			after:   10 * time.Second,
		},
		"a body that is fast enough but too long": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, okHeader)
				for {
					time.Sleep(time.Second)
					if _, err := conn.Write(make([]byte, 2<<10)); err != nil {
						return
					}
				}
			},
			message: "the source did not deliver the photo within 1m0s",
			after:   time.Minute,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, nil)
				dialPipe(t, f, test.answer)
				start := time.Now()
				_, err := f.Fetch(t.Context(), "http://photos.test/", io.Discard, nil)
				require.Equal(t, test.after, time.Since(start))
				if test.message == "" {
					require.NoError(t, err)
				} else {
					requireFailure(t, err, photo.SourceTimeout, "%s", test.message)
				}
			})
		})
	}
}

// Timeout bounds the time over all redirects.
func TestTimeoutOverRedirects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, nil)
		dialPipe(t, f, func(conn net.Conn) {
			time.Sleep(19 * time.Second)
			_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: /\r\n\r\n")
		})
		start := time.Now()
		_, err := f.Fetch(t.Context(), "http://photos.test/", io.Discard, nil)
		requireFailure(t, err, photo.SourceTimeout, "the source did not deliver the photo within 1m0s")
		require.Equal(t, time.Minute, time.Since(start))
	})
}

// Waiting for a host slot or for the writer does not count against Timeout, and
// progress is reported meanwhile.
func TestTimersPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, func(c *Config) { c.HostConcurrency = 1 })
		dialPipe(t, f, func(conn net.Conn) {
			time.Sleep(15 * time.Second)
			_, _ = io.WriteString(conn, okHeader)
			for range 3 {
				time.Sleep(9 * time.Second)
				_, _ = conn.Write(make([]byte, 10<<10))
			}
		})
		release, err := f.hosts.acquire(t.Context(), "photos.test")
		require.NoError(t, err)
		time.AfterFunc(time.Hour, release)

		slow := writerFunc(func(p []byte) (int, error) {
			time.Sleep(time.Hour)
			return len(p), nil
		})
		start := time.Now()
		var reports int
		var last int64
		result, err := f.Fetch(t.Context(), "http://photos.test/", slow, func(n int64) {
			reports++
			last = n
		})
		require.NoError(t, err)
		require.EqualValues(t, 30<<10, result.Bytes)
		require.EqualValues(t, 30<<10, last)
		took := time.Since(start)
		require.Greater(t, took, 4*time.Hour)
		require.InDelta(t, took.Seconds(), reports, 2)
	})
}

// Waiting for a slot of a host that a redirect leads to does not count against
// Timeout either.
func TestTimersPauseAfterRedirect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, func(c *Config) { c.HostConcurrency = 1 })
		var connections atomic.Int32
		dialPipe(t, f, func(conn net.Conn) {
			time.Sleep(15 * time.Second)
			if connections.Add(1) == 1 {
				_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: http://busy.test/\r\n\r\n")
				return
			}
			_, _ = io.WriteString(conn, okHeader+"photo")
		})
		release, err := f.hosts.acquire(t.Context(), "busy.test")
		require.NoError(t, err)
		time.AfterFunc(time.Hour, release)

		start := time.Now()
		written, _, err := fetch(t, f, "http://photos.test/")
		require.NoError(t, err)
		require.Equal(t, "photo", written)
		require.Equal(t, time.Hour+15*time.Second, time.Since(start))
	})
}
