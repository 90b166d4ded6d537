package devstack

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
)

const (
	// s3GatewayVersion is that of versitygw, which the tests take for an object store.
	s3GatewayVersion = "1.8.0"

	s3GatewayModule = "github.com/versity/versitygw"
)

// S3Gateway returns the path of versitygw, a server that speaks S3 and keeps objects as files. It is built as Temporal's program is,
// see [TemporalCLI].
func S3Gateway(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("place an S3 server: %w", err)
	}
	path, err := installedProgram{
		dir: filepath.Join(dir, "versitygw-v"+s3GatewayVersion), name: "versitygw",
		title: "an S3 server for tests, versitygw " + s3GatewayVersion + ",", takes: "1 to 2 minutes",
		build: func(ctx context.Context, bin string) error {
			return goInstall(ctx, bin, "", s3GatewayModule+"/cmd/versitygw@v"+s3GatewayVersion)
		},
	}.path(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("installing versitygw, an S3 server: %w", err)
	}
	return path, nil
}
