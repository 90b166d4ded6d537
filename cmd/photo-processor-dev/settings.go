package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack"
)

// settings are the variables of the development stack alone.
type settings struct {
	DataDir             string `env:"DATA_DIR"`
	TemporalPort        int    `env:"DEV_TEMPORAL_PORT" envDefault:"7233"`
	TemporalUIPort      int    `env:"DEV_TEMPORAL_UI_PORT" envDefault:"8233"`
	TemporalMetricsPort int    `env:"DEV_TEMPORAL_METRICS_PORT" envDefault:"8000"`
	PostgresPort        int    `env:"DEV_POSTGRES_PORT" envDefault:"54320"`
	SamplesPort         int    `env:"DEV_SAMPLES_PORT" envDefault:"3100"`

	// Workers is the number of workers. 0 means 1, and 3 with --cluster.
	Workers int `env:"WORKERS"`
}

// stackVariables make a process of photo-processor use the stack. newStack sets
// those that have no value, and its children inherit them.
var stackVariables = []string{"DATA_DIR", "DATABASE_URL", "TEMPORAL_ADDRESS", "TEMPORAL_CONFIG_FILE", "TEMPORAL_UI_URL", "HTTP_ADDR", "SOURCE_ALLOW_CIDRS", "SOURCE_ALLOW_ADDRESSES"}

func newStack(dir devstack.Dir) (*stack, error) {
	s := &stack{dir: dir}
	if err := env.Parse(&s.settings); err != nil {
		return nil, err
	}
	if s.Workers < 0 {
		return nil, fmt.Errorf("WORKERS: %d is not a number of workers", s.Workers)
	}
	if s.Workers == 0 {
		if s.Workers = 1; dir.IsCluster() {
			s.Workers = 3
		}
	}
	s.postgres = devstack.Postgres{Dir: dir, Port: s.PostgresPort, TCP: dir.IsCluster()}
	defaults := map[string]string{
		"DATABASE_URL": s.postgres.DSN(),
		// Of the sample photos. Other programs on this machine are no sources.
		"SOURCE_ALLOW_ADDRESSES": fmt.Sprintf("127.0.0.1:%d", s.SamplesPort),
	}
	// A developer's default profile may be of a Temporal that is not for trials.
	if os.Getenv("TEMPORAL_ADDRESS")+os.Getenv("TEMPORAL_PROFILE")+os.Getenv("TEMPORAL_CONFIG_FILE") == "" {
		defaults["TEMPORAL_ADDRESS"], defaults["TEMPORAL_CONFIG_FILE"] = s.ownTemporal(), os.DevNull
		defaults["TEMPORAL_UI_URL"] = devstack.Temporal{UIPort: s.TemporalUIPort}.UIURL()
	}
	var err error
	for name, value := range defaults {
		if os.Getenv(name) == "" {
			err = errors.Join(err, os.Setenv(name, value))
		}
	}
	if err := errors.Join(err, os.Setenv("DATA_DIR", dir.Root)); err != nil {
		return nil, err
	}
	if s.cfg, err = config.Load(); err != nil {
		return nil, err
	}
	if s.temporal, err = config.Temporal(slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if s.temporal.HostPort == "" {
		s.temporal.HostPort = s.ownTemporal()
	}
	return s, errors.Join(os.Setenv("TEMPORAL_ADDRESS", s.temporal.HostPort), os.Setenv("HTTP_ADDR", s.cfg.HTTPAddr))
}

// warnOfIgnoredSettings names the settings in this process's environment that
// differ from those that the stack was started with.
func warnOfIgnoredSettings(out io.Writer, started map[string]string) error {
	settings, err := readSettings()
	if err != nil {
		return err
	}
	var ignored []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if name == "METRICS_ADDR" && value == "" {
			continue // in a shell that has evaluated "env"
		}
		if value != started[name] {
			ignored = append(ignored, name)
		}
	}
	if len(ignored) > 0 {
		fmt.Fprintf(out, "It was started with other values of %s, and keeps them until it is stopped and started.\n", strings.Join(ignored, ", "))
	}
	return nil
}

// readSettings reads the variables of the product and of the stack.
func readSettings() (map[string]string, error) {
	params, err := env.GetFieldParams(&config.Config{})
	if err != nil {
		return nil, err
	}
	own, err := env.GetFieldParams(&settings{})
	if err != nil {
		return nil, err
	}
	names := append([]string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}, stackVariables...)
	for _, p := range append(params, own...) {
		names = append(names, p.Key)
	}
	values := map[string]string{}
	for _, name := range names {
		values[name] = os.Getenv(name)
	}
	return values, nil
}
