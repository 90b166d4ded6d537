package protocol

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Sanitize returns the text as one line of printable ASCII: other bytes become
// "?", and a text of more than limit bytes is cut to end in "...". The result
// is safe as data, such as a field of a log line or a JSON string: it cannot
// forge a line, control a terminal or hide characters.
func Sanitize(text string, limit int) string {
	clean := []byte(text)
	if len(clean) > limit {
		clean = append(clean[:limit-3:limit-3], "..."...)
	}
	for i, b := range clean {
		if b < ' ' || b > '~' {
			clean[i] = '?'
		}
	}
	return string(clean)
}

func header(kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))
}

func write(w io.Writer, kind byte, payload []byte) error {
	_, err := w.Write(append(header(kind, len(payload)), payload...))
	return err
}

func writeJSON(w io.Writer, kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(w, kind, payload)
}

func readJSON(r io.Reader, kind byte, v any) error {
	n, err := readHeader(r, kind, maxControl)
	if err != nil {
		return noEOF(err)
	}
	payload := make([]byte, n)
	if err := readFull(r, payload); err != nil {
		return err
	}
	return json.Unmarshal(payload, v)
}

func readAnyHeader(r io.Reader) (kind byte, n uint32, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	return head[0], binary.BigEndian.Uint32(head[1:]), nil
}

// readHeader reads the header of a frame of the wanted kind and at most limit
// bytes. It returns io.EOF when the pipe is closed between frames.
func readHeader(r io.Reader, want byte, limit int) (int, error) {
	kind, n, err := readAnyHeader(r)
	if err != nil {
		return 0, err
	}
	if kind != want {
		return 0, fmt.Errorf("a frame of kind %#x instead of %#x", kind, want)
	}
	if uint64(n) > uint64(limit) {
		return 0, fmt.Errorf("a frame of %d bytes is over the limit of %d", n, limit)
	}
	return int(n), nil
}

func readFull(r io.Reader, buf []byte) error {
	_, err := io.ReadFull(r, buf)
	return noEOF(err)
}

// noEOF turns io.EOF into io.ErrUnexpectedEOF, for the middle of a frame.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
