package api_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/api"
)

// BenchmarkProcessBody reads the largest request that is accepted: 10,000 UUIDs.
func BenchmarkProcessBody(b *testing.B) {
	const photos = 10_000
	ids := make([]string, photos)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	body, err := json.Marshal(ids)
	require.NoError(b, err)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		_, rejected, parsed, err := api.ParseProcessForTest(body)
		require.NoError(b, err)
		require.Empty(b, rejected)
		require.Len(b, parsed, photos)
	}
}
