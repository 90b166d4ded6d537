package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.yaml.in/yaml/v3"

	temporalconfig "github.com/photo-processor/photo-processor/temporal-config"
)

const (
	temporalNamespace = "default"

	// temporalRetention is how long a developer can look back at closed
	// workflows.
	temporalRetention = "720h"

	// temporalDB is relative to the data directory, which is the server's
	// working directory: the server makes a URI of it, in which some characters
	// of a whole path would not survive.
	temporalDB = "temporal.db"
)

// Temporal is Temporal's development server: all of Temporal and its Web UI in
// one process, on 127.0.0.1. It keeps its data in a SQLite database in Dir, in
// WAL mode with synchronous=normal: it loses nothing when it is killed, and may
// lose the last moments in a power cut.
type Temporal struct {
	Dir    Dir
	CLI    string // the path of Temporal's command-line program, see [TemporalCLI]
	Port   int    // for clients and workers
	UIPort int    // of the Web UI; 0 means none

	// Disposable keeps all data in memory, for tests.
	Disposable bool
}

// Address is the host and port for clients and workers.
func (t Temporal) Address() string { return net.JoinHostPort(loopback, strconv.Itoa(t.Port)) }

// UIURL is the URL of the Web UI.
func (t Temporal) UIURL() string { return "http://" + t.uiAddress() }

func (t Temporal) uiAddress() string { return net.JoinHostPort(loopback, strconv.Itoa(t.UIPort)) }

// Process describes the server.
func (t Temporal) Process() (Process, error) {
	args := []string{"server", "start-dev", "--ip", loopback, "--port", strconv.Itoa(t.Port), "--log-level", "warn", "--log-format", "text",
		"--search-attribute", "PhotoFailure=Keyword"}
	if t.UIPort == 0 {
		args = append(args, "--headless")
	} else {
		args = append(args, "--ui-port", strconv.Itoa(t.UIPort))
	}
	if !t.Disposable {
		// Syncing at every commit would make each step of a workflow wait for
		// the disk.
		args = append(args, "--db-filename", temporalDB, "--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal")
	}
	flags, err := dynamicConfigFlags(temporalconfig.DynamicConfig)
	if err != nil {
		return Process{}, err
	}
	process := Process{
		Name: "temporal", Path: t.CLI, Args: append(args, flags...), Env: t.env(), Dir: t.Dir.Root,
		LogFile: t.Dir.Log("temporal"), PIDFile: t.Dir.PIDFile("temporal"),
		Prepare: t.prepare, Ready: t.ready,
	}
	if t.Disposable {
		process.StopSignals = []syscall.Signal{syscall.SIGKILL}
	}
	return process, nil
}

// dynamicConfigFlags returns the flags that give the development server the
// values of a dynamic configuration file.
func dynamicConfigFlags(file []byte) (flags []string, err error) {
	var config map[string][]struct {
		Value       any            `yaml:"value"`
		Constraints map[string]any `yaml:"constraints"`
	}
	if err := yaml.Unmarshal(file, &config); err != nil {
		return nil, fmt.Errorf("dynamic configuration: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		settings := config[key]
		if len(settings) != 1 || len(settings[0].Constraints) != 0 {
			return nil, fmt.Errorf("dynamic configuration: %s must have one value without constraints", key)
		}
		value, err := json.Marshal(settings[0].Value)
		if err != nil {
			return nil, fmt.Errorf("dynamic configuration: %s: %w", key, err)
		}
		flags = append(flags, "--dynamic-config-value", key+"="+string(value))
	}
	return flags, nil
}

// env has none of the developer's TEMPORAL_… variables, and a home without
// configuration files.
func (t Temporal) env() []string {
	return []string{
		"HOME=" + t.Dir.Root,
		"PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + os.TempDir(),
		"GOGC=400", // the server allocates much and keeps about 100 MB
	}
}

// prepare deletes a database that no server was ever ready with: the server
// creates its tables only in a new file, so that it would never start with one
// that has some of them.
func (t Temporal) prepare(context.Context) error {
	if err := t.Dir.Create(); err != nil {
		return err
	}
	if err := CheckPort(t.Address(), "Temporal", "DEV_TEMPORAL_PORT"); err != nil {
		return err
	}
	if t.UIPort != 0 {
		if err := CheckPort(t.uiAddress(), "Temporal's Web UI", "DEV_TEMPORAL_UI_PORT"); err != nil {
			return err
		}
	}
	if _, err := os.Stat(t.completeMarkerFile()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, suffix := range temporalDBSuffixes {
		if err := removeIfExists(filepath.Join(t.Dir.Root, temporalDB+suffix)); err != nil {
			return err
		}
	}
	return nil
}

// temporalDBSuffixes end the names of the files of SQLite's database.
var temporalDBSuffixes = []string{"", "-wal", "-shm"}

// completeMarkerFile is a file that marks a database that has all its tables.
func (t Temporal) completeMarkerFile() string {
	return filepath.Join(t.Dir.Root, temporalDB+".complete")
}

func (t Temporal) ready(ctx context.Context) error {
	if err := temporalReady(ctx, t.Address()); err != nil {
		return err
	}
	if t.UIPort != 0 {
		if err := listens(ctx, t.uiAddress()); err != nil {
			return err
		}
	}
	if t.Disposable {
		return nil
	}
	if err := run(ctx, t.env(), t.Dir.Root, nil, t.CLI, "operator", "namespace", "update",
		"--address", t.Address(), "--namespace", temporalNamespace, "--retention", temporalRetention); err != nil {
		return err
	}
	return os.WriteFile(t.completeMarkerFile(), nil, 0o600)
}

// listens returns nil if a server listens on the address.
func listens(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// temporalReady returns nil once the frontend, history and matching services
// answer.
func temporalReady(ctx context.Context, address string) error {
	// A request that is lost in a server that is just starting would wait long.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := client.NewLazyClient(client.Options{
		HostPort: address, Namespace: temporalNamespace, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.CheckHealth(ctx, nil); err != nil {
		return err
	}
	_, err = c.DescribeWorkflowExecution(ctx, "is-the-server-ready", "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); !ok {
		return fmt.Errorf("describe a workflow that does not exist: %w", err)
	}
	_, err = c.DescribeTaskQueue(ctx, "is-the-server-ready", enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	return err
}
