package mediatype

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// ftyp returns the first box of an ISO base media file.
func ftyp(major string, compatible ...string) []byte {
	box := append([]byte("\x00\x00\x00\x00ftyp"), major...)
	box = append(box, 0, 0, 0, 0)
	for _, brand := range compatible {
		box = append(box, brand...)
	}
	binary.BigEndian.PutUint32(box, uint32(len(box)))
	return box
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		head []byte
		want string
	}{
		{ftyp("heic", "mif1", "heic"), "image/heic"},
		{ftyp("heix", "mif1"), "image/heic"},
		{ftyp("heim"), "image/heic"},
		{ftyp("heis"), "image/heic"},
		{ftyp("hevc", "mif1", "heic"), "image/heic-sequence"},
		{ftyp("hevx"), "image/heic-sequence"},
		{ftyp("avif", "mif1", "heic"), "image/avif"},
		{ftyp("avis", "msf1"), "image/avif"},
		{ftyp("MA1A"), "image/avif"},
		{ftyp("MA1B", "mif1"), "image/avif"},
		{ftyp("mif1"), "image/heif"},
		{ftyp("mif1", "miaf"), "image/heif"},
		{ftyp("mif1", "miaf", "heic"), "image/heic"},
		{ftyp("miaf", "mif1", "avif"), "image/avif"},
		{ftyp("msf1", "iso8"), "image/heif-sequence"},
		{ftyp("msf1", "hevc"), "image/heic-sequence"},
		{ftyp("isom", "mif1"), "image/heif"},
		{ftyp("iso8", "mif1", "MA1B"), "image/avif"},
		{ftyp("isom", "iso2", "avc1", "mp41"), "video/mp4"},
		{append(ftyp("isom", "mp41"), "heic"...), "video/mp4"}, // after the box
		{[]byte("\xff\xd8\xff"), "image/jpeg"},
		{[]byte("hello"), "text/plain"},
		{[]byte("\x00\x00\x00\x18ftyp"), "application/octet-stream"},
		{nil, "text/plain"},
	} {
		require.Equal(t, tt.want, Detect(tt.head), "%q", tt.head)
	}
}

func FuzzDetect(f *testing.F) {
	f.Add(ftyp("mif1", "heic"))
	f.Fuzz(func(t *testing.T, head []byte) { require.NotEmpty(t, Detect(head)) })
}
