// Package bucket opens the bucket of thumbnails: a directory or an object
// store. Its imports decide which kinds of buckets the program supports.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"gocloud.dev/blob"

	// The supported kinds of buckets. To support another kind, import it; that
	// makes the program larger by its SDK, which is 12 MB for S3.
	//
	//	_ "gocloud.dev/blob/azureblob" // azblob://
	//	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/s3blob"   // s3://, AWS and other servers with its API

	"github.com/photo-processor/photo-processor/internal/health"
)

// Open opens a bucket by its URL, such as file:///var/thumbnails or s3://name.
// It does not connect. The error has the URL without credentials and without
// values of its query, which may be keys.
//
// For a file:// URL it changes three defaults: a missing directory is created;
// temporary files are in the directory itself, so that they can be renamed on
// any file system; and there are no attribute files, since a thumbnail's key
// has all its attributes.
func Open(ctx context.Context, bucketURL string) (*blob.Bucket, error) {
	return open(ctx, bucketURL, true)
}

// OpenExisting is Open for a reader: a missing directory is an error.
func OpenExisting(ctx context.Context, bucketURL string) (*blob.Bucket, error) {
	return open(ctx, bucketURL, false)
}

func open(ctx context.Context, bucketURL string, createDir bool) (*blob.Bucket, error) {
	u, err := url.Parse(bucketURL)
	if err != nil {
		return nil, fmt.Errorf("bucket: not a URL")
	}
	given := *u
	if u.Scheme == "file" {
		query := u.Query()
		if !createDir {
			query.Set("create_dir", "") // fileblob creates it for any other value
		}
		for name, value := range map[string]string{"create_dir": "true", "no_tmp_dir": "true", "metadata": "skip"} {
			if !query.Has(name) {
				query.Set(name, value)
			}
		}
		u.RawQuery = query.Encode()
	}
	bucket, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, redactOpenError(given, *u, err)
	}
	return bucket, nil
}

// redacted replaces the secrets of URLs, as net/url does with passwords.
const redacted = "xxxxx"

// redactOpenError returns the error of opening a bucket at the given URL, which
// was opened as the extended URL. The kinds of buckets quote the URL and values
// of its query. It drops the cause if a secret remains in it.
func redactOpenError(given, extended url.URL, cause error) error {
	var secrets []string
	query := url.Values{}
	for name, values := range given.Query() {
		query.Set(name, redacted)
		secrets = append(secrets, values...)
	}
	shown := given
	if shown.RawQuery != "" {
		shown.RawQuery = query.Encode()
	}
	if user := shown.User; user != nil {
		password, _ := user.Password()
		secrets = append(secrets, user.Username(), password, user.String())
		shown.User = url.User(redacted)
	}
	text := strings.ReplaceAll(cause.Error(), extended.String(), shown.String())
	for _, secret := range secrets {
		quoted := strconv.Quote(secret)
		if secret != "" && (strings.Contains(text, secret) || strings.Contains(text, quoted[1:len(quoted)-1])) {
			text = "its credentials or a parameter are invalid"
			break
		}
	}
	return fmt.Errorf("open bucket %s: %s", shown.String(), text)
}

// Check returns a function that returns an error unless the bucket exists and is
// accessible. If it is a directory that exists now, the function checks only
// that, because fileblob reads the names of all files to list one.
func Check(bucket *blob.Bucket) func(context.Context) error {
	isDir := func() bool { return bucket.As(new(os.FileInfo)) }
	if isDir() {
		return func(context.Context) error {
			if !isDir() {
				return errors.New("the directory does not exist")
			}
			return nil
		}
	}
	return func(ctx context.Context) error {
		accessible, err := bucket.IsAccessible(ctx)
		if err == nil && !accessible {
			err = errors.New("there is no such bucket; create it first")
		}
		return err
	}
}

// WaitUntilReady waits until the bucket is accessible, and logs each transient
// error. timeout bounds one attempt. It returns an error that is not transient,
// such as a missing bucket or missing permissions, with what to check and the
// name of the environment variable that has the bucket's URL; and nil when ctx
// ends.
func WaitUntilReady(ctx context.Context, log *slog.Logger, variable string, bucket *blob.Bucket, timeout time.Duration) error {
	check := Check(bucket)
	err := health.WaitUntilReady(ctx, log, variable, isTransient, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return check(ctx)
	})
	if isCredentialsError(err) {
		err = fmt.Errorf("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role: %w", err)
	} else if status := httpStatus(err); status >= 400 {
		err = fmt.Errorf("the bucket's server refused the request; check the bucket's URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy: %w", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	return nil
}

// isTransient reports whether the bucket's server is unavailable or overloaded.
// No error of a file:// bucket is transient.
func isTransient(err error) bool {
	if isCredentialsError(err) {
		return false
	}
	status := httpStatus(err)
	return status == noResponse || status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests ||
		errors.Is(err, context.DeadlineExceeded)
}

// isCredentialsError reports whether the AWS SDK found no credentials. The SDK
// has no type for this error, so the text decides.
func isCredentialsError(err error) bool {
	return err != nil && strings.Contains(err.Error(), "get identity: ")
}

// noResponse is the HTTP status in the SDK's errors of requests without a
// response.
const noResponse = 0

// httpStatus returns the HTTP status with which the bucket's server responded,
// or -1 if the error is not from a request.
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
