package bucket

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// IsMissing reports whether a read of the bucket failed with err because the
// bucket does not have the key. It is false if the bucket itself is missing or
// unavailable. It lists nothing where the error or the directory decides:
// fileblob reads the names of all files to list one.
func IsMissing(ctx context.Context, bucket *blob.Bucket, err error) bool {
	if gcerrors.Code(err) != gcerrors.NotFound {
		return false
	}
	if errors.As(err, new(*fs.PathError)) { // a bucket of files
		return bucket.As(new(os.FileInfo)) // its directory exists
	}
	var response interface {
		error
		ErrorCode() string
	}
	if errors.As(err, &response) && response.ErrorCode() == "NoSuchKey" {
		return true
	}
	// A server that does not say what is missing.
	accessible, err := bucket.IsAccessible(ctx)
	return accessible && err == nil
}
