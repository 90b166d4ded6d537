package config

import (
	"context"
	"fmt"
	"net/url"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
)

func fileBucket(dir string) string { return (&url.URL{Scheme: "file", Path: dir}).String() }

// OpenBucket opens a bucket by its URL. A bucket of files is made when it is
// missing; its temporary files lie in it, so that a file can be renamed to its
// final name on any file system; and it keeps no files of attributes: all that
// we need to know of a file is in its key.
func OpenBucket(ctx context.Context, bucketURL string) (*blob.Bucket, error) {
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
