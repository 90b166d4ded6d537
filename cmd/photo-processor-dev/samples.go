package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/samples"
)

// newSamples serves the sample photos alone, for docker-compose.yml.
func newSamples() *cobra.Command {
	var listen, dir string
	var check bool
	command := &cobra.Command{
		Use: "samples", Short: "Serve the sample photos", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return checkSamples(cmd.Context(), listen)
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "sample photos are served at http://%s\n", listener.Addr())
			return serveSamples(cmd.Context(), listener, dir)
		},
	}
	command.Flags().StringVar(&listen, "listen", "127.0.0.1:3100", "host and port")
	command.Flags().BoolVar(&check, "check", false, "exit with 0 if a server answers there, for a container's health check")
	command.Flags().StringVar(&dir, "dir", "/tmp/photo-processor-samples", "directory of the photos, which are drawn when they are first fetched")
	return command
}

// checkSamples returns nil if a server of sample photos answers at the address.
func checkSamples(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return fetchAll(ctx, []string{"http://" + address + "/"})
}

// serveSamples serves the sample photos until ctx ends.
func serveSamples(ctx context.Context, listener net.Listener, dir string) error {
	server := &http.Server{Handler: samples.Handler(dir), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// confirmDrop asks on a terminal before photos are dropped. Scripts are not
// asked.
func confirmDrop(out io.Writer) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	fmt.Fprint(out, "This drops all photos and thumbnails of the stack. Continue? [y/N] ")
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
		fmt.Fprintln(out, "Nothing was changed.")
		return exitcode.ErrReported
	}
	return nil
}
