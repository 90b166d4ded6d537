package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	namespacepb "go.temporal.io/api/namespace/v1"

	temporalconfig "github.com/photo-processor/photo-processor/temporal-config"
)

const (
	// temporalNamespace is the namespace that the development server always has.
	temporalNamespace = "default"

	// temporalDBName is relative to the data directory, which is the server's working directory: a whole path with a question
	// mark or a percent sign would not survive the URI that the server makes of it.
	temporalDBName = "temporal.db"

	// temporalDBUnfinished marks a database that no server has been ready with.
	temporalDBUnfinished = temporalDBName + ".unfinished"

	// temporalStopTimeout is how long the server may take to stop; it takes 2 seconds. Killing it does no harm, though.
	temporalStopTimeout = 10 * time.Second

	// retentionGiven is how long the development server keeps finished workflows unless told otherwise, retentionWanted how
	// long a developer may want to look back. A photo's workflow takes some 10 kB.
	retentionGiven  = 24 * time.Hour
	retentionWanted = 30 * 24 * time.Hour
)

// Temporal is Temporal's development server: all of Temporal and its Web UI in one process, on 127.0.0.1. It keeps everything in a
// SQLite database in Dir, in WAL mode with synchronous=normal: killed, it loses nothing; a power cut may take the last moments.
type Temporal struct {
	Dir Dir

	// CLI is the path of Temporal's command-line program, see [TemporalCLI].
	CLI string

	// Port is where clients and workers connect.
	Port int

	// UIPort is where the Web UI is. 0 means none.
	UIPort int

	// Disposable keeps everything in memory only, for tests.
	Disposable bool
}

// Address is the host and port for clients and workers.
func (t Temporal) Address() string { return net.JoinHostPort(loopback, strconv.Itoa(t.Port)) }

// UIURL is the address of the Web UI. Empty when there is none.
func (t Temporal) UIURL() string {
	if t.UIPort == 0 {
		return ""
	}
	return "http://" + t.uiAddress()
}

func (t Temporal) uiAddress() string { return net.JoinHostPort(loopback, strconv.Itoa(t.UIPort)) }

// Process describes the server.
func (t Temporal) Process() (Process, error) {
	args, err := t.args()
	if err != nil {
		return Process{}, err
	}
	process := Process{
		Name:        "temporal",
		Path:        t.CLI,
		Args:        args,
		Env:         t.env(),
		Dir:         t.Dir.Root,
		LogFile:     t.Dir.Log("temporal"),
		PIDFile:     t.Dir.PIDFile("temporal"),
		Prepare:     t.prepare,
		Ready:       t.ready,
		StopSignals: []syscall.Signal{syscall.SIGTERM},
		StopTimeout: temporalStopTimeout,
	}
	if t.Disposable {
		process.StopSignals = []syscall.Signal{syscall.SIGKILL}
	}
	return process, nil
}

func (t Temporal) args() ([]string, error) {
	args := []string{"server", "start-dev",
		"--ip", loopback,
		// All other ports it picks itself, free ones.
		"--port", strconv.Itoa(t.Port),
		"--log-level", "warn",
		"--log-format", "text",
	}
	if t.UIPort == 0 {
		args = append(args, "--headless")
	} else {
		args = append(args, "--ui-port", strconv.Itoa(t.UIPort))
	}
	if !t.Disposable {
		args = append(args,
			"--db-filename", temporalDBName,
			// Writes append to a log, which survives that the process is killed at any moment …
			"--sqlite-pragma", "journal_mode=wal",
			// … and is not synced at every commit, which would make each step of a workflow wait for the disk.
			"--sqlite-pragma", "synchronous=normal",
		)
	}
	flags, err := dynamicConfigFlags(temporalconfig.DynamicConfig)
	return append(args, flags...), err
}

// env has none of the TEMPORAL_… variables, which would change what the program does, and a home in which it finds no
// configuration of the developer's.
func (t Temporal) env() []string {
	return []string{
		"HOME=" + t.Dir.Root,
		"PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + os.TempDir(),
		// The server allocates much and keeps little, about 100 MB; collecting less often saves CPU for the photos.
		"GOGC=400",
	}
}

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
	if t.Disposable {
		return nil
	}
	return t.discardUnfinished()
}

// discardUnfinished deletes a database whose making was interrupted. The server makes its tables only in a file that does not
// exist, so it would never start with one that has some of them.
func (t Temporal) discardUnfinished() error {
	mark := t.unfinishedMark()
	_, err := os.Stat(mark)
	if errors.Is(err, os.ErrNotExist) {
		_, err := os.Stat(t.Dir.TemporalDB())
		if errors.Is(err, os.ErrNotExist) {
			return os.WriteFile(mark, nil, 0o600)
		}
		return err
	}
	if err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(t.Dir.TemporalDB() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (t Temporal) unfinishedMark() string { return filepath.Join(t.Dir.Root, temporalDBUnfinished) }

// ready asks each of the services that a workflow needs, then the Web UI.
func (t Temporal) ready(ctx context.Context) error {
	c, err := temporalClient(t.Address())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := answers(ctx, c); err != nil {
		return err
	}
	if err := servesWorkflows(ctx, c); err != nil {
		return err
	}
	if t.UIPort != 0 {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.uiAddress())
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
	if t.Disposable {
		return nil
	}
	if err := raiseRetention(ctx, c); err != nil {
		return err
	}
	if err := os.Remove(t.unfinishedMark()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// temporalClient makes a client that connects when it is used.
func temporalClient(address string) (client.Client, error) {
	return client.NewLazyClient(client.Options{
		HostPort:  address,
		Namespace: temporalNamespace,
		Logger:    sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
}

// questionTimeout bounds one question: one that gets lost in a server which is just starting would wait for long.
const questionTimeout = 2 * time.Second

// answers asks the frontend.
func answers(ctx context.Context, c client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	_, err := c.CheckHealth(ctx, nil)
	return err
}

// servesWorkflows asks the history service, through a workflow that does not exist, and the matching service.
func servesWorkflows(ctx context.Context, c client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	_, err := c.DescribeWorkflowExecution(ctx, "is-the-server-ready", "")
	if notFound := (*serviceerror.NotFound)(nil); !errors.As(err, &notFound) {
		return fmt.Errorf("describing a workflow: %w", err)
	}
	if _, err := c.DescribeTaskQueue(ctx, "is-the-server-ready", enumspb.TASK_QUEUE_TYPE_WORKFLOW); err != nil {
		return fmt.Errorf("describing a task queue: %w", err)
	}
	return nil
}

// raiseRetention changes the retention of a new server. One that a developer has chosen stays.
func raiseRetention(ctx context.Context, c client.Client) error {
	described, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: temporalNamespace})
	if err != nil {
		return err
	}
	if described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() != retentionGiven {
		return nil
	}
	_, err = c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
		Namespace: temporalNamespace,
		Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retentionWanted)},
	})
	return err
}
