// Package bucket opens the bucket that holds thumbnails: a directory, or an
// object store. Which kinds there are is decided here alone.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gocloud.dev/blob"

	// What kinds of buckets there are. Two more are an import away. Their SDKs
	// would make the program larger for who has no use for them; S3's takes 12 MB.
	//
	//	_ "gocloud.dev/blob/azureblob" // azblob://
	//	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/s3blob"   // s3://, of whatever speaks S3

	"github.com/photo-processor/photo-processor/internal/health"
)

// Open opens a bucket by its URL; it does not connect. A bucket of files
// is made when it is missing; its temporary files lie in it, so that a file can
// be renamed to its final name on any file system; and it keeps no files of
// attributes: all that we need to know of a file is in its key.
func Open(ctx context.Context, bucketURL string) (*blob.Bucket, error) {
	u, err := url.Parse(bucketURL)
	if err != nil {
		return nil, fmt.Errorf("bucket: not a URL")
	}
	if u.Scheme == "file" {
		query := u.Query()
		for name, value := range map[string]string{"create_dir": "true", "no_tmp_dir": "true", "metadata": "skip"} {
			if !query.Has(name) {
				query.Set(name, value)
			}
		}
		u.RawQuery = query.Encode()
	}
	bucket, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", u.Redacted(), err)
	}
	return bucket, nil
}

// WhenUp returns as soon as the bucket answers. The error says that it
// will not: there is no such bucket, or we are refused. The variable is the one
// that has its URL.
func WhenUp(ctx context.Context, log *slog.Logger, variable string, bucket *blob.Bucket, timeout time.Duration) error {
	err := health.WaitUntilReady(ctx, log, variable, passes, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		there, err := bucket.IsAccessible(ctx)
		if err == nil && !there {
			return errors.New("there is no such bucket; it must be made first")
		}
		return err
	})
	if isCredentialsError(err) {
		err = fmt.Errorf("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role: %w", err)
	} else if status := httpStatus(err); status >= 400 {
		err = fmt.Errorf("we are refused; look at its URL, at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at the bucket's policy: %w", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	return nil
}

// passes tells whether the server is away or overloaded, which
// passes by itself; a bucket of files has no such errors.
func passes(err error) bool {
	if isCredentialsError(err) {
		return false
	}
	status := httpStatus(err)
	return status == noAnswer || status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests ||
		errors.Is(err, context.DeadlineExceeded)
}

// isCredentialsError tells whether the AWS SDK could not find credentials, for
// which it has no type.
func isCredentialsError(err error) bool {
	return err != nil && strings.Contains(err.Error(), "get identity: ")
}

// noAnswer is the status of a request that could not be sent.
const noAnswer = 0

// httpStatus gives the status that a bucket's server has answered with; -1 if
// the error is of another kind.
func httpStatus(err error) int {
	var response interface {
		error
		HTTPStatusCode() int
	}
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return -1
}
