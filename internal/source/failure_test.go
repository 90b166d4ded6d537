package source

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const limit = time.Minute
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"1":                              time.Second,
		" 7 ":                            7 * time.Second,
		"007":                            7 * time.Second,
		"60":                             limit,
		"61":                             limit,
		"9223372036":                     limit,
		"9223372036854775807":            limit,
		"99999999999999999999999999":     limit,
		"-1":                             0,
		"+1":                             0,
		"1.5":                            0,
		"1s":                             0,
		"٣":                              0,
		"soon":                           0,
		"Fri, 02 Jan 2026 03:04:15 GMT":  10 * time.Second,
		"Friday, 02-Jan-26 03:04:15 GMT": 10 * time.Second,
		"Fri Jan  2 03:04:15 2026":       10 * time.Second,
		"Fri, 02 Jan 2026 03:04:05 GMT":  0,
		"Fri, 02 Jan 2026 03:04:04 GMT":  0,
		"Thu, 01 Jan 1970 00:00:00 GMT":  0,
		"Mon, 01 Jan 0001 00:00:00 GMT":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":  limit,
		"Fri, 02 Jan 2026 03:04:15 PST":  0,
	} {
		require.Equal(t, want, parseRetryAfter(value, now, limit), "%q", value)
	}
	require.Equal(t, 1500*time.Millisecond, parseRetryAfter("2", now, 1500*time.Millisecond))
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"", "0", "120", "-1", "99999999999999999999", "Fri, 02 Jan 2026 03:04:15 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Fri Jan  2 03:04:15 2026", "\x00", "1 2",
	} {
		f.Add(seed, int64(time.Minute))
	}
	f.Add("9223372037", int64(math.MaxInt64))
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string, limit int64) {
		if limit < 1 {
			return // New rejects it
		}
		wait := parseRetryAfter(value, now, time.Duration(limit))
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, time.Duration(limit))
		require.Equal(t, wait, parseRetryAfter(" "+value+" ", now, time.Duration(limit)))
	})
}
