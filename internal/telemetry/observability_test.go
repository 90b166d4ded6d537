package telemetry_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const observability = "../../observability/"

// promtool runs promtool and returns its output.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	find := exec.Command("sh", observability+"promtool.sh", filepath.Join(cache, "photo-processor", "promtool"))
	find.Stderr = t.Output()
	path, err := find.Output()
	require.NoError(t, err, "promtool cannot be had")
	output, err := exec.Command(strings.TrimSpace(string(path)), args...).CombinedOutput()
	require.NoError(t, err, "promtool %s\n%s", strings.Join(args, " "), output)
	return string(output)
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", observability+"prometheus.yml") // includes its rule files
	require.Contains(t, promtool(t, "test", "rules", observability+"alerts_test.yml"), "SUCCESS")

	tests, err := os.ReadFile(observability + "alerts_test.yml")
	require.NoError(t, err)
	runbook, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	require.Len(t, alerts(t), 8)
	for _, alert := range alerts(t) {
		fires := regexp.MustCompile(`alertname: ` + alert.Alert + `\n +eval_time: \S+\n +exp_alerts:\n`)
		require.Regexp(t, fires, string(tests), "no test has it fire")
		require.Contains(t, string(tests), "alertname: "+alert.Alert+", eval_time", "no test has it not fire")
		_, anchor, _ := strings.Cut(alert.Annotations["runbook_url"], "docs/operating.md#")
		require.Equal(t, strings.ToLower(alert.Alert), anchor)
		require.Contains(t, string(runbook), "\n### "+alert.Alert+"\n", "docs/operating.md says what to do")
		require.NotEmpty(t, alert.Annotations["summary"])
		require.NotEmpty(t, alert.Annotations["description"])
	}
}

type alert struct {
	Alert, Expr string
	Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	text, err := os.ReadFile(observability + "alerts.yml")
	require.NoError(t, err)
	var file struct{ Groups []struct{ Rules []alert } }
	require.NoError(t, yaml.Unmarshal(text, &file))
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// panel is a panel of a Grafana dashboard.
type panel struct {
	ID      int
	Type    string
	Title   string
	Targets []struct{ Expr string }
}

func dashboard(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile(observability + "grafana/dashboards/photo-processor.json")
	require.NoError(t, err)
	var board struct{ Panels []panel }
	require.NoError(t, json.Unmarshal(text, &board))
	return board.Panels
}

// queries returns the dashboard's queries, with values for Grafana's variables.
func queries(t *testing.T) (all []string) {
	t.Helper()
	for _, p := range dashboard(t) {
		for _, target := range p.Targets {
			all = append(all, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
		}
	}
	return all
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	ids := map[int]bool{}
	for _, p := range dashboard(t) {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
	}
	// promtool parses queries only in rules.
	type rule struct{ Record, Expr string }
	var group struct {
		Name  string
		Rules []rule
	}
	group.Name = "dashboard"
	for i, query := range queries(t) {
		require.NotContains(t, query, "$", "a variable without a value")
		group.Rules = append(group.Rules, rule{"query_" + string(rune('a'+i/26)) + string(rune('a'+i%26)), query})
	}
	require.NotEmpty(t, group.Rules)
	text, err := yaml.Marshal(map[string]any{"groups": []any{group}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	promtool(t, "check", "rules", path)
}

// requireQueriesCanBeAnswered checks that every metric of the dashboard and the
// alerts was scraped.
func requireQueriesCanBeAnswered(t *testing.T, scraped []string) {
	t.Helper()
	all := queries(t)
	for _, a := range alerts(t) {
		all = append(all, a.Expr)
	}
	// Parts of a query that are not names of metrics.
	labels := regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|"[^"]*"|\b(by|on|without|ignoring) *\([^)]*\)`)
	word := regexp.MustCompile(`\b[a-z_:][a-z0-9_:]*\b *\(?`)
	asked := 0
	for _, query := range all {
		for _, name := range word.FindAllString(labels.ReplaceAllString(query, ""), -1) {
			if strings.HasSuffix(name, "(") || slices.Contains([]string{"or", "and", "unless", "bool", "up"}, strings.TrimSpace(name)) {
				continue // a function, an operator, or a metric of Prometheus itself
			}
			name = strings.TrimSpace(name)
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(scraped, base) {
					name = base
				}
			}
			require.True(t, slices.Contains(scraped, name), "nobody shows %s, for which asks %s", name, query)
			asked++
		}
	}
	require.Greater(t, asked, len(all)-3)
}
