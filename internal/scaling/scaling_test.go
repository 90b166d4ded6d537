package scaling

import (
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of docs/scaling.md anew")

const page = "../../docs/scaling.md"

// costs reads the inputs from the page: rows of a table that end in the name of
// a field and its value.
func costs(t *testing.T, content string) (c Costs) {
	t.Helper()
	fields := reflect.ValueOf(&c).Elem()
	seen := 0
	for _, row := range regexp.MustCompile("(?m)^\\|.*\\| `(\\w+)` \\| ([\\d.]+) \\|$").FindAllStringSubmatch(content, -1) {
		field := fields.FieldByName(row[1])
		require.True(t, field.IsValid(), row[1])
		value, err := strconv.ParseFloat(row[2], 64)
		require.NoError(t, err)
		field.SetFloat(value)
		seen++
	}
	require.Equal(t, fields.NumField(), seen, "inputs in %s", page)
	return c
}

func TestThePageSaysWhatFollowsFromItsInputs(t *testing.T) {
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	content := string(raw)
	c := costs(t, content)
	for name, table := range map[string]string{
		"needs":  Table(c.For(1), c.For(100), c.For(10_000)),
		"limits": LimitsTable(c.Limits(c.CoresAWorker)),
	} {
		from, to := "<!-- "+name+" -->\n", "<!-- end -->"
		before, rest, ok := strings.Cut(content, from)
		require.True(t, ok, name)
		_, after, ok := strings.Cut(rest, to)
		require.True(t, ok, name)
		content = before + from + table + to + after
	}
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(content), 0o644))
		return
	}
	require.Equal(t, content, string(raw), "go test ./internal/scaling -update writes it anew")
}

// TestThePlannedUtilisationKeepsQueuesShort simulates photos that arrive at
// random at workers with as many cores as the model asks for, and measures what
// they wait for one: the reason why the model leaves some idle.
func TestThePlannedUtilisationKeepsQueuesShort(t *testing.T) {
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	c := costs(t, string(raw))
	service := c.RenderMS + c.WorkerMS
	random := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []float64{20, 100, 1000} {
		waited, busy := simulate(random, rate, service, c.For(rate).WorkerCores)
		t.Logf("%.0f photos/s on %d cores: %.0f %% busy, mean wait %.1f ms for %.0f ms of work", rate, c.For(rate).WorkerCores, 100*busy, waited, service)
		require.LessOrEqual(t, busy, c.UtilisationPercent/100+0.02)
		require.Less(t, waited, service, "photos wait no longer than they take")
	}
	// One core less than the work needs, and the wait has no end.
	cores := int(math.Floor(100*service/1000)) - 1
	waited, _ := simulate(random, 100, service, cores)
	require.Greater(t, waited, 10*service)
}

// simulate gives the mean wait in milliseconds, and how busy the cores are, of
// 50,000 photos that arrive at random and take an exponentially distributed time:
// sizes of photos vary about that much.
func simulate(random *rand.Rand, rate, service float64, cores int) (waited, busy float64) {
	free := make([]float64, cores) // when each core is free again
	now, worked := 0.0, 0.0
	const photos = 50_000
	for range photos {
		now += random.ExpFloat64() * 1000 / rate
		first := 0
		for i := range free {
			if free[i] < free[first] {
				first = i
			}
		}
		start, takes := max(now, free[first]), random.ExpFloat64()*service
		waited += start - now
		worked += takes
		free[first] = start + takes
	}
	return waited / photos, worked / now / float64(cores)
}
