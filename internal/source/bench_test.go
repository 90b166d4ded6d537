package source

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkFetch compares a fetch with plain net/http, which checks no
// addresses, has no limits and computes no digest.
func BenchmarkFetch(b *testing.B) {
	const size = 1 << 20
	body := make([]byte, size)
	copy(body, jpegHead)
	server := serve(b, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) })

	b.Run("fetch", func(b *testing.B) {
		f := setup(b, nil)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			result, err := f.Fetch(b.Context(), server, io.Discard, func(int64) {})
			require.NoError(b, err)
			require.EqualValues(b, size, result.Bytes)
		}
	})
	b.Run("http.Get", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			resp, err := client.Get(server)
			require.NoError(b, err)
			n, err := io.Copy(io.Discard, resp.Body)
			require.NoError(b, err)
			require.EqualValues(b, size, n)
			resp.Body.Close()
		}
	})
}
