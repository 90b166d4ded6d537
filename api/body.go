package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"
)

// byteOrderMark begins text that some programs of Windows write as UTF-8.
const byteOrderMark = "\ufeff"

// readBody reads a request body, which must be UTF-8 and may be compressed with
// gzip. It has at most limit bytes, both compressed and decompressed. A byte
// order mark at its start is removed.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body := http.MaxBytesReader(w, r.Body, limit)
	unreadable := "The request body could not be read to its end"
	encoding := strings.Join(r.Header.Values("Content-Encoding"), ", ")
	switch strings.ToLower(encoding) {
	case "", "identity":
	case "gzip", "x-gzip": // RFC 9110 has them mean the same
		unreadable = "The request body is not valid gzip, or could not be read to its end"
		decompressed, err := gzip.NewReader(body)
		if err != nil {
			return nil, s.toBodyError(err, unreadable)
		}
		body = http.MaxBytesReader(w, decompressed, limit)
	default:
		w.Header().Set("Accept-Encoding", "gzip")
		return nil, &clientError{http.StatusUnsupportedMediaType,
			fmt.Sprintf("The request body has the Content-Encoding %q; gzip or none is supported", encoding)}
	}
	content, err := io.ReadAll(memoryOf(r).reader(body))
	switch {
	case err != nil:
		return nil, s.toBodyError(err, unreadable)
	case isUTF16(content):
		return nil, badRequest("The request body is UTF-16 or UTF-32; it must be UTF-8")
	case !utf8.Valid(content):
		return nil, badRequest("The request body is not valid UTF-8")
	}
	return bytes.TrimPrefix(content, []byte(byteOrderMark)), nil
}

// toBodyError returns the error of a body that is too large as it is, and any
// other as a mistake in the request: that it arrived too slowly, or the message.
func (s *Server) toBodyError(err error, message string) error {
	switch {
	case errors.As(err, new(*http.MaxBytesError)), errors.Is(err, errNoMemory):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &clientError{http.StatusRequestTimeout,
			fmt.Sprintf("The request body took longer than the limit of %s", s.Config.HTTPTimeout)}
	default:
		return badRequest("%s", message)
	}
}

// isUTF16 reports whether the text begins with a byte order mark of UTF-16 or
// UTF-32, or with an ASCII character in one of them, which has a zero byte.
func isUTF16(text []byte) bool {
	return bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) ||
		bytes.IndexByte(text[:min(2, len(text))], 0) >= 0
}
