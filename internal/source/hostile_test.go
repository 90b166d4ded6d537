package source

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// shortTimeout is a limit for servers that never finish, so that their tests
// end soon.
const shortTimeout = 50 * time.Millisecond

// writeSlowly repeats the text every 2 ms until the peer closes the connection.
func writeSlowly(conn io.Writer, text string) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// writeForever repeats the text until the peer closes the connection.
func writeForever(conn io.Writer, text string) {
	block := []byte(strings.Repeat(text, max(1, (32<<10)/len(text))))
	for {
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}

// waitForClose writes nothing until the peer closes the connection.
func waitForClose(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestHostileSources(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	const brokeOff = "the connection to the source broke before the whole photo had arrived"
	const invalid = "the source gave no valid answer"
	tests := map[string]struct {
		config     func(*Config)
		answer     func(net.Conn)
		code       photo.Code
		message    string
		maxWritten int    // bytes written
		cause      string // a part of Error.Cause
	}{
		"no answer": {
			config:  func(c *Config) { c.HeaderTimeout = shortTimeout },
			answer:  waitForClose,
			code:    photo.SourceTimeout,
			message: "the source did not answer within 50ms",
		},
		"slow headers": {
			config: func(c *Config) { c.HeaderTimeout = shortTimeout },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok)
				writeSlowly(conn, "X: y\r\n")
			},
			code:    photo.SourceTimeout,
			message: "the source did not answer within 50ms",
		},
		"slow headers against the total": {
			config: func(c *Config) { c.Timeout = shortTimeout },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok)
				writeSlowly(conn, "X: y\r\n")
			},
			code:    photo.SourceTimeout,
			message: "the source did not deliver the photo within 50ms",
		},
		"endless early hints": {
			config:  func(c *Config) { c.HeaderTimeout = shortTimeout },
			answer:  func(conn net.Conn) { writeSlowly(conn, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") },
			code:    photo.SourceTimeout,
			message: "the source did not answer within 50ms",
		},
		"flood of early hints": {
			answer:  func(conn net.Conn) { writeForever(conn, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") },
			code:    photo.SourceUnavailable,
			message: invalid,
			cause:   "exceeded 65536 bytes",
		},
		"huge header": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"X: ")
				writeForever(conn, "y")
			},
			code:    photo.SourceUnavailable,
			message: invalid,
			cause:   "exceeded 65536 bytes",
		},
		"endless headers": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok)
				writeForever(conn, "X: y\r\n")
			},
			code:    photo.SourceUnavailable,
			message: invalid,
			cause:   "exceeded 65536 bytes",
		},
		"slow body": {
			config: func(c *Config) { c.MinBytesPerSecond, c.SpeedWindow = 1<<20, shortTimeout },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 1000000\r\n\r\n")
				writeSlowly(conn, "x")
			},
			code:       photo.SourceTimeout,
			message:    "the source sent less than 1048576 bytes per second for 50ms",
			maxWritten: 50 << 10,
		},
		"stalled body": {
			config: func(c *Config) { c.MinBytesPerSecond, c.SpeedWindow = 1, shortTimeout },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 1000000\r\n\r\n")
				waitForClose(conn)
			},
			code:    photo.SourceTimeout,
			message: "the source sent less than 1 bytes per second for 50ms",
		},
		"body that ends just before the end": {
			config: func(c *Config) { c.SpeedWindow = shortTimeout },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 6\r\n\r\nphoto")
				waitForClose(conn)
			},
			code:       photo.SourceTimeout,
			message:    "the source sent less than 1024 bytes per second for 50ms",
			maxWritten: 5,
		},
		"slow body against the total": {
			config: func(c *Config) { c.Timeout, c.MinBytesPerSecond = shortTimeout, 1 },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 1000000\r\n\r\n")
				writeSlowly(conn, "x")
			},
			code:       photo.SourceTimeout,
			message:    "the source did not deliver the photo within 50ms",
			maxWritten: 1000,
		},
		"endless body": {
			config: func(c *Config) { c.MaxBytes = 1 << 20 },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"\r\n")
				writeForever(conn, "x")
			},
			code:       photo.SourceTooLarge,
			message:    "the source has more than 1048576 bytes, which is the limit",
			maxWritten: 1 << 20,
		},
		"endless chunks": {
			config: func(c *Config) { c.MaxBytes = 1000 },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n")
				writeForever(conn, "1\r\nx\r\n")
			},
			code:       photo.SourceTooLarge,
			message:    "the source has more than 1000 bytes, which is the limit",
			maxWritten: 1000,
		},
		"chunks that are nothing but extensions": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n")
				writeForever(conn, "1;"+strings.Repeat("e", 1000)+"\r\nx\r\n")
			},
			code:       photo.SourceUnavailable,
			message:    brokeOff,
			maxWritten: 1000,
		},
		"endless trailers": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
				writeForever(conn, "X: y\r\n")
			},
			code:       photo.SourceUnavailable,
			message:    brokeOff,
			maxWritten: 1,
		},
		"announces too much": { // reading the body would hang
			config: func(c *Config) { c.MaxBytes = 1000 },
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 1001\r\n\r\n")
				waitForClose(conn)
			},
			code:    photo.SourceTooLarge,
			message: "the source has 1001 bytes; the limit is 1000",
		},
		"announces more than it sends": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 10\r\n\r\nphoto")
			},
			code:       photo.SourceUnavailable,
			message:    brokeOff,
			maxWritten: 5,
		},
		"announces and sends nothing": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 10\r\n\r\n")
			},
			code:    photo.SourceUnavailable,
			message: brokeOff,
		},
		"announces less than it sends": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 5\r\n\r\nphotograph")
			},
			maxWritten: 5,
		},
		"announces less than nothing": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: -1\r\n\r\nphoto")
			},
			code:    photo.SourceUnavailable,
			message: invalid,
		},
		"announces two lengths": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 5\r\nContent-Length: 6\r\n\r\nphoto")
			},
			code:    photo.SourceUnavailable,
			message: invalid,
		},
		"breaks off in a chunk": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n5\r\npho")
			},
			code:       photo.SourceUnavailable,
			message:    brokeOff,
			maxWritten: 3,
		},
		"breaks off between chunks": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n5\r\nphoto\r\n")
			},
			code:       photo.SourceUnavailable,
			message:    brokeOff,
			maxWritten: 5,
		},
		"resets": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, ok+"Content-Length: 10\r\n\r\nphoto")
				_ = conn.(*net.TCPConn).SetLinger(0)
			},
			code:       photo.SourceUnavailable,
			message:    brokeOff,
			maxWritten: 5,
		},
		"closes without an answer": {
			answer:  func(net.Conn) {},
			code:    photo.SourceUnavailable,
			message: invalid,
		},
		"no HTTP": {
			answer:  func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n") },
			code:    photo.SourceUnavailable,
			message: invalid,
		},
		"switches protocols": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
				waitForClose(conn)
			},
			code:    photo.SourceUnavailable,
			message: "the source answered 101 Switching Protocols",
		},
		"failure with an endless body": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\n\r\n")
				writeForever(conn, "x")
			},
			code:    photo.SourceNotFound,
			message: "the source answered 404 Not Found",
		},
		"failure with a body that never comes": {
			answer: func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n")
				waitForClose(conn)
			},
			code:    photo.SourceNotFound,
			message: "the source answered 404 Not Found",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, test.config)
			written, _, err := fetch(t, f, serveRaw(t, test.answer))
			require.LessOrEqual(t, len(written), test.maxWritten)
			if test.code == "" {
				require.NoError(t, err)
				return
			}
			sourceErr := requireFailure(t, err, test.code, "%s", test.message)
			require.Contains(t, sourceErr.Cause, test.cause)
		})
	}
}

func TestHostileTLS(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.ConnectTimeout = shortTimeout })
	listener := listen(t, allowedAddr) // accepts connections but no handshake
	_, _, err := fetch(t, f, "https://"+listener.Addr().String())
	requireFailure(t, err, photo.SourceTimeout, "no connection to the source could be made within 50ms")
}

func TestMaxBytesIsAllowed(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.MaxBytes = 5 })
	written, _, err := fetch(t, f, serve(t, textHandler("photo")))
	require.NoError(t, err)
	require.Equal(t, "photo", written)
	written, _, err = fetch(t, f, serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "pho")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "tos")
	}))
	requireFailure(t, err, photo.SourceTooLarge, "the source has more than 5 bytes, which is the limit")
	require.LessOrEqual(t, len(written), 5)
}

func gzipString(t testing.TB, body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func TestContentEncoding(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	photoZip, bomb, nothing := gzipString(t, "photo"), gzipString(t, strings.Repeat("\x00", 2<<20)), gzipString(t, "")
	require.Less(t, len(bomb), limit, "the bomb is within the limit of bytes on the wire")
	flipped := []byte(photoZip)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	const tooLarge = "the source has more than 65536 bytes, which is the limit"
	const damaged = "the source's gzip encoding is damaged"
	for name, test := range map[string]struct {
		encoding, body string
		endless        bool
		written        string
		code           photo.Code
		message        string
	}{
		"identity":         {encoding: "identity", body: "photo", written: "photo"},
		"gzip":             {encoding: "gzip", body: photoZip, written: "photo"},
		"x-GZip":           {encoding: "x-GZip", body: photoZip, written: "photo"},
		"two members":      {encoding: "gzip", body: photoZip + photoZip, written: "photophoto"},
		"gzip of nothing":  {encoding: "gzip", body: nothing},
		"nothing as gzip":  {encoding: "gzip"},
		"unknown":          {encoding: "br", body: "photo", written: "photo"},
		"twice is unknown": {encoding: "gzip, gzip", body: photoZip, written: photoZip},
		"not said":         {body: photoZip, written: photoZip},
		"bomb":             {encoding: "gzip", body: bomb, code: photo.SourceTooLarge, message: tooLarge},
		"endless nothing":  {encoding: "gzip", body: nothing, endless: true, code: photo.SourceTooLarge, message: tooLarge},
		"not gzip":         {encoding: "gzip", body: "photographs, uncompressed", code: photo.SourceUnavailable, message: damaged},
		"a plain JPEG":     {encoding: "gzip", body: jpegHead, written: jpegHead},
		"a long JPEG":      {encoding: "gzip", body: jpegHead + strings.Repeat("x", limit-len(jpegHead)), written: jpegHead + strings.Repeat("x", limit-len(jpegHead))},
		"JPEG too long":    {encoding: "gzip", body: jpegHead + strings.Repeat("x", limit), code: photo.SourceTooLarge, message: tooLarge},
		"JPEG in gzip":     {encoding: "gzip", body: gzipString(t, jpegHead), written: jpegHead},
		"bad checksum":     {encoding: "gzip", body: string(flipped), code: photo.SourceUnavailable, message: damaged},
		"broken off":       {encoding: "gzip", body: photoZip[:len(photoZip)-4], code: photo.SourceUnavailable, message: "the connection to the source broke before the whole photo had arrived"},
		"garbage after it": {encoding: "gzip", body: photoZip + "photographs", code: photo.SourceUnavailable, message: damaged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *Config) { c.MaxBytes = limit })
			written, _, err := fetch(t, f, serve(t, func(w http.ResponseWriter, r *http.Request) {
				if test.encoding != "" {
					w.Header().Set("Content-Encoding", test.encoding)
				}
				if _, _ = io.WriteString(w, test.body); test.endless {
					writeForever(w, test.body)
				}
			}))
			require.LessOrEqual(t, len(written), limit)
			if test.code != "" {
				requireFailure(t, err, test.code, "%s", test.message)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.written, written)
		})
	}
}
