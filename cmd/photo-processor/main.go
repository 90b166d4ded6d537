// Command photo-processor turns a table of photo URLs into thumbnails, durably.
// Its subcommands are the API, the worker, and tools for both.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/api"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/postgres"
	"github.com/photo-processor/photo-processor/internal/source"
	"github.com/photo-processor/photo-processor/internal/telemetry"
	"github.com/photo-processor/photo-processor/worker"
)

// version is set by the linker; see the Makefile.
var version string

func main() {
	// The first signal stops the process gracefully, the second at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(exitcode.Run(ctx, newRoot(), os.Args[1:], os.Stdout, os.Stderr))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "photo-processor",
		Short: "Turn a table of photo URLs into thumbnails, durably",
		Long:  "Turn a table of photo URLs into thumbnails, durably.\n\n" + exitcode.Help,
	}
	root.AddCommand(
		service("api", "Serve the HTTP API", runAPI),
		service("worker", "Process photos: fetch sources, make thumbnails", runWorker),
		service("migrate", "Migrate the database to the current schema, and exit", migrate),
		newAudit(),
		newBatches(),
		newHealth(),
		newPhoto(),
		newProcess(),
		newRender(),
		newVersion(),
	)
	return root
}

// service returns a command that is configured by the environment alone. With
// LOG_FORMAT=json, it logs its error, too, in JSON.
func service(name, short string, run func(context.Context, config.Config, *slog.Logger) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := loadAndRun(cmd, run)
			// LOG_FORMAT counts even if the configuration is wrong.
			if err == nil || os.Getenv("LOG_FORMAT") != "json" || cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return err
			}
			telemetry.NewLogger(cmd.ErrOrStderr(), slog.LevelInfo, true).Error("photo-processor exits", "command", name, "error", err)
			return exitcode.ErrReported
		},
	}
}

func loadAndRun(cmd *cobra.Command, run func(context.Context, config.Config, *slog.Logger) error) error {
	cfg, err := config.Load()
	if err != nil {
		return err
	}
	if cfg.WorkerBuildID == "" {
		cfg.WorkerBuildID = programVersion()
	}
	if cfg.WorkerDeployment != "" && slices.Contains([]string{"", "unknown", "(devel)"}, cfg.WorkerBuildID) {
		return errors.New("configuration:\nWORKER_BUILD_ID: is required with WORKER_DEPLOYMENT, because this program was built without a version")
	}
	return run(cmd.Context(), cfg, newLogger(cfg, cmd.ErrOrStderr()))
}

func newLogger(cfg config.Config, w io.Writer) *slog.Logger {
	log := telemetry.NewLogger(w, cfg.LogLevel, cfg.LogFormat == "json")
	slog.SetDefault(log)
	stdlog.SetOutput(libraryLog{log})
	return log
}

func runAPI(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	limitMemory(log, 0)
	return api.Run(ctx, cfg, log)
}

func runWorker(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	// The render processes are in the worker's container.
	limitMemory(log, uint64(cfg.RenderConcurrency)*uint64(cfg.RenderMaxMemory))
	return worker.Run(ctx, cfg, log)
}

// limitMemory sets Go's memory limit to 90 % of the container's, less what other
// processes of the container may take, in bytes. Near its limit, Go collects
// garbage more often, so that the kernel need not kill the process. GOMEMLIMIT
// takes precedence.
func limitMemory(log *slog.Logger, others uint64) {
	limit, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithProvider(func() (uint64, error) {
		limit, err := memlimit.FromCgroup()
		switch {
		case errors.Is(err, memlimit.ErrCgroupsNotSupported), errors.Is(err, memlimit.ErrNoCgroup):
			return 0, memlimit.ErrNoLimit
		case err != nil || limit <= others: // the others rarely take all
			return limit, err
		}
		return limit - others, nil
	}))
	switch {
	case err != nil:
		log.Warn("Go's memory limit does not follow the container's", "error", err)
	case limit > 0:
		log.Info("Go's memory limit follows the container's", "bytes", limit)
	}
}

// libraryLog logs the lines of libraries that use package log. It removes quoted
// strings: net/http quotes up to 4 KiB of a source's unsolicited response.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Write(line []byte) (int, error) {
	l.log.Info(source.CutQuoted(strings.TrimSuffix(string(line), "\n")))
	return len(line), nil
}

func migrate(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	db, err := postgres.Open(cfg.DatabaseURL, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	log.Info("the schema is up to date")
	return nil
}

func newVersion() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs}
	output := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output == outputJSON {
			return printJSON(cmd.OutOrStdout(), map[string]string{"version": programVersion()})
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "photo-processor", programVersion())
		return err
	}
	return cmd
}

func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		return info.Main.Version
	}
	return version
}
