package main

import (
	"errors"
	"os"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// setAPIRun makes cmd a command that calls the API: it adds the flag --api, and
// passes run a client with the first of API_TOKEN. If the API cannot be reached,
// the exit code is exitcode.Unreachable.
func setAPIRun(cmd *cobra.Command, run func(cmd *cobra.Command, args []string, api *client.Client, cfg config.Config) error) {
	apiURL := cmd.Flags().String("api", os.Getenv("API_URL"), "`URL` of the API; defaults to API_URL, else to HTTP_ADDR")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load()
		if err != nil {
			return err
		}
		baseURL := *apiURL
		if baseURL == "" {
			baseURL = "http://" + cfg.HTTPAddr
		}
		token := ""
		if len(cfg.APITokens) > 0 {
			token = cfg.APITokens[0]
		}
		err = run(cmd, args, client.New(baseURL, token), cfg)
		if errors.Is(err, client.ErrUnreachable) {
			return &exitcode.Error{Code: exitcode.Unreachable, Err: err}
		}
		return err
	}
}

// isTransient reports whether the error may go away: the API, or a server that it
// needs, is restarting.
func isTransient(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return !ok || refused.Status == 503
}

// parseUUIDArgument parses a UUID of the command line.
func parseUUIDArgument(arg string) (uuid.UUID, error) {
	id, err := photo.ParseUUID(arg)
	if err != nil {
		return uuid.UUID{}, exitcode.Usagef("%q is not a UUID", arg)
	}
	return id, nil
}
