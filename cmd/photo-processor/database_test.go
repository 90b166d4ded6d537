package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// databaseRole is the role of API and worker, which is no superuser.
	databaseRole     = "photo_processor"
	databasePassword = "secret"

	// recoveryTimeout bounds how long after a fault a new photo takes.
	recoveryTimeout = 15 * time.Second
)

// databaseBundle is an API and a worker with a PostgreSQL in which tests inject
// faults.
type databaseBundle struct {
	*program
	admin       *pgx.Conn // a superuser's session
	api, worker *service
	sources     string // URL
	seed        uint64 // of the next source
}

func setupDatabase(t *testing.T) *databaseBundle {
	t.Helper()
	b := &databaseBundle{program: build(t)}
	dsn, stopPostgres, err := devstacktest.Postgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopPostgres)
	temporal, stopTemporal, err := devstacktest.Temporal(t.Context())
	require.NoError(t, err)
	t.Cleanup(stopTemporal)
	b.admin, err = pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.admin.Close(context.Background()) })
	b.exec(t, `CREATE ROLE `+databaseRole+` LOGIN PASSWORD '`+databasePassword+`'`)
	b.exec(t, `GRANT ALL ON SCHEMA public TO `+databaseRole)
	b.requirePassword(t)

	b.sources = serveQuickly(t)
	cfg := b.admin.Config()
	b.env = append(b.env, "SOURCE_ALLOW_CIDRS=127.0.0.1/32", "RENDER_CONCURRENCY=1", "TEMPORAL_ADDRESS="+temporal,
		"TEMPORAL_CONFIG_FILE="+filepath.Join(t.TempDir(), "none"), // not the developer's
		"THUMBNAILS_BUCKET=file://"+t.TempDir(),
		"DATABASE_URL="+(&url.URL{
			Scheme: "postgres", User: url.UserPassword(databaseRole, databasePassword), Path: "/" + cfg.Database,
			RawQuery: url.Values{"host": {cfg.Host}, "port": {fmt.Sprint(cfg.Port)}}.Encode(),
		}).String())
	b.api, b.worker = b.serve(t, "api"), b.serve(t, "worker")
	b.api.awaitLog(t, "API listens")
	b.worker.awaitLog(t, "worker is ready")
	return b
}

// requirePassword makes the server check the role's password, also on the
// socket, which trusts all other roles.
func (b *databaseBundle) requirePassword(t *testing.T) {
	t.Helper()
	var path string
	require.NoError(t, b.admin.QueryRow(t.Context(), `SHOW hba_file`).Scan(&path))
	rules, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append([]byte("local all "+databaseRole+" scram-sha-256\n"), rules...), 0o600))
	b.exec(t, `SELECT pg_reload_conf()`)
}

func (b *databaseBundle) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := b.admin.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

// terminateSessions ends the sessions of API and worker.
func (b *databaseBundle) terminateSessions(t *testing.T) {
	t.Helper()
	b.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '`+databaseRole+`'`)
}

// urls returns the URLs of n different sources.
func (b *databaseBundle) urls(n int) (urls []string) {
	for range n {
		urls = append(urls, fmt.Sprintf("%s/%d.jpg", b.sources, b.seed))
		b.seed++
	}
	return urls
}

// post posts a photo once, to be processed, and returns the status. A response
// that is not 201 must be a 503 with Retry-After.
func (b *databaseBundle) post(t *testing.T, source string) (status int, added []client.PhotoSummary) {
	t.Helper()
	body, err := json.Marshal([]map[string]string{{"url": source}})
	require.NoError(t, err)
	resp, err := devstacktest.HTTPClient.Post(b.program.api+"/photos?process=true", "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode != http.StatusCreated {
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, string(answer))
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
		return resp.StatusCode, nil
	}
	require.NoError(t, json.Unmarshal(answer, &added))
	return resp.StatusCode, added
}

// awaitReadiness waits until /readyz has the status and the words. Its results
// may be a second old.
func (b *databaseBundle) awaitReadiness(t *testing.T, want int, words string) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, answer := get(t, b.program.api+"/readyz")
		return status == want && strings.Contains(answer, words)
	}, time.Minute, 20*time.Millisecond)
}

// requireRecovery posts a new photo until it is accepted, and waits until it is
// completed.
func (b *databaseBundle) requireRecovery(t *testing.T) {
	t.Helper()
	start := time.Now()
	var added []client.PhotoSummary
	source := b.urls(1)[0]
	require.Eventually(t, func() bool {
		_, added = b.post(t, source)
		return added != nil
	}, recoveryTimeout, 50*time.Millisecond)
	require.Eventually(t, func() bool { return b.photo(t, added[0].UUID).Status == photo.Completed },
		recoveryTimeout-time.Since(start), 50*time.Millisecond)
}

// TestFaultsOfPostgreSQL injects faults while an API and a worker run: photos
// wait, and the API answers 503. Without the fault, all photos are completed.
func TestFaultsOfPostgreSQL(t *testing.T) {
	b := setupDatabase(t)
	t.Run("a failover", b.testFailover)
	t.Run("faults whose reason is logged", b.testReasons)
	require.Zero(t, b.count(t, photo.Failed))
}

// testFailover makes the server read-only for new sessions, as a standby is
// before its promotion, while photos are processed.
func (b *databaseBundle) testFailover(t *testing.T) {
	ids := b.add(t, b.urls(30)...)
	require.Eventually(t, func() bool { return b.count(t, photo.Completed) > 5 }, time.Minute, 20*time.Millisecond)

	b.exec(t, `ALTER ROLE `+databaseRole+` SET default_transaction_read_only = on`)
	b.terminateSessions(t)
	require.Eventually(t, func() bool {
		status, added := b.post(t, b.urls(1)[0])
		for _, ph := range added {
			ids = append(ids, ph.UUID)
		}
		return status == http.StatusServiceUnavailable
	}, time.Minute, 20*time.Millisecond)
	b.worker.awaitLog(t, "SQLSTATE 25006")
	for range 20 { // more than the pool has sessions
		status, _ := b.post(t, b.urls(1)[0])
		require.Equal(t, http.StatusServiceUnavailable, status)
		status, _ = get(t, b.program.api+"/photos/completed")
		require.Equal(t, http.StatusOK, status, "reads go on")
	}

	b.exec(t, `ALTER ROLE `+databaseRole+` RESET default_transaction_read_only`)
	b.requireRecovery(t)
	b.awaitCompleted(t, ids)
}

// testReasons injects faults for which an operator has to find the reason: both
// logs have it.
func (b *databaseBundle) testReasons(t *testing.T) {
	raise := func(code string) string {
		return `CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the fault of the test' USING ERRCODE = '` + code + `'; END $$;
			CREATE TRIGGER raise BEFORE INSERT OR UPDATE ON photos FOR EACH STATEMENT EXECUTE FUNCTION raise()`
	}
	const dropRaise = `DROP FUNCTION raise CASCADE`
	for _, fault := range []struct {
		name           string
		inject, remove string
		code, message  string // in the logs
		notReady       bool
	}{
		{
			"too many connections", `ALTER ROLE ` + databaseRole + ` CONNECTION LIMIT 0`, `ALTER ROLE ` + databaseRole + ` CONNECTION LIMIT -1`,
			"53300", "too many connections for role", true,
		},
		{"a changed password", `ALTER ROLE ` + databaseRole + ` PASSWORD 'other'`, `ALTER ROLE ` + databaseRole + ` PASSWORD '` + databasePassword + `'`, "28P01", "password authentication failed", true},
		{"no privileges", `ALTER TABLE photos OWNER TO CURRENT_USER`, `ALTER TABLE photos OWNER TO ` + databaseRole, "42501", "permission denied for table photos", true},
		{"no schema", `ALTER TABLE photos RENAME TO lost`, `ALTER TABLE lost RENAME TO photos`, "42P01", `relation "photos" does not exist`, true},
		{"a full disk", raise("53100"), dropRaise, "53100", "the fault of the test", false},
		{"an unknown error", raise("PP001"), dropRaise, "PP001", "the fault of the test", false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			added, err := client.New(b.program.api, "").Add(t.Context(), false, b.urls(1)...)
			require.NoError(t, err)
			waiting := added[0].UUID
			b.exec(t, fault.inject)
			b.terminateSessions(t)

			_, _, err = client.New(b.program.api, "").Process(t.Context(), []string{waiting.String()})
			require.NoError(t, err, "the start of a workflow needs no PostgreSQL")
			require.Eventually(t, func() bool { // the first requests may find the ended sessions
				status, _ := b.post(t, b.urls(1)[0])
				return status == http.StatusServiceUnavailable && strings.Contains(b.api.log(t), "SQLSTATE "+fault.code)
			}, time.Minute, 20*time.Millisecond)
			if fault.notReady {
				b.awaitReadiness(t, http.StatusServiceUnavailable, `"postgresql":"unreachable"`)
			} else {
				b.awaitReadiness(t, http.StatusOK, `"postgresql":"ok"`)
			}
			for _, s := range []*service{b.api, b.worker} {
				s.awaitLog(t, "SQLSTATE "+fault.code)
				require.True(t, slices.ContainsFunc(strings.Split(s.log(t), "\n"), func(line string) bool {
					return (strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN")) &&
						strings.Contains(line, "SQLSTATE "+fault.code) && strings.Contains(strings.ReplaceAll(line, `\"`, `"`), fault.message)
				}), "no line says why")
			}

			b.exec(t, fault.remove)
			b.requireRecovery(t)
			b.awaitCompleted(t, []uuid.UUID{waiting})
			b.awaitReadiness(t, http.StatusOK, `"postgresql":"ok"`)
		})
	}
}
