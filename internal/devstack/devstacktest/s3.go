package devstacktest

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/photo-processor/photo-processor/internal/devstack"
)

// The credentials and region of the S3 servers.
const (
	s3AccessKey = "photo-processor"
	s3SecretKey = "an S3 server of the tests"
	s3Region    = "us-east-1"
)

// s3Gateway is versitygw, a server that speaks S3 and keeps objects as files.
var s3Gateway = devstack.GoProgram{
	Name: "versitygw", Package: "github.com/versity/versitygw/cmd/versitygw", Version: "v1.8.0", Takes: "1 to 2 minutes",
}

// S3Gateway returns the path of versitygw, and builds it the first time.
func S3Gateway(ctx context.Context) (string, error) { return s3Gateway.Install(ctx, os.Stderr) }

// S3Server is an S3 server.
type S3Server struct {
	Endpoint string // its URL
	buckets  string // a directory with one subdirectory per bucket
}

// S3 starts an S3 server without buckets that checks signatures. stop may be called
// again.
func S3(ctx context.Context) (server *S3Server, stop func(), err error) {
	gateway, err := S3Gateway(ctx)
	if err != nil {
		return nil, nil, err
	}
	for range portAttempts {
		server, stop, err = startS3(ctx, gateway)
		if !portTaken(err) {
			break
		}
	}
	return server, stop, err
}

func startS3(ctx context.Context, gateway string) (*S3Server, func(), error) {
	port, err := devstack.FreePort()
	if err != nil {
		return nil, nil, err
	}
	d, err := newServerDir(os.TempDir())
	if err != nil {
		return nil, nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s := &S3Server{Endpoint: "http://" + address, buckets: filepath.Join(d.dir.Root, "buckets")}
	attributes := filepath.Join(d.dir.Root, "attributes") // for file systems without extended attributes
	process := devstack.Process{
		Name:    "versitygw",
		Path:    gateway,
		Args:    []string{"--port", address, "--region", s3Region, "posix", "--sidecar", attributes, s.buckets},
		Env:     []string{"ROOT_ACCESS_KEY=" + s3AccessKey, "ROOT_SECRET_KEY=" + s3SecretKey, "HOME=" + d.dir.Root},
		Dir:     d.dir.Root,
		LogFile: d.dir.Log("versitygw"),
		PIDFile: d.dir.PIDFile("versitygw"),
		Prepare: func(context.Context) error {
			for _, dir := range []string{s.buckets, attributes} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
			}
			return d.dir.Create()
		},
		Ready: func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint, nil)
			if err != nil {
				return err
			}
			resp, err := HTTPClient.Do(req)
			if err != nil {
				return err
			}
			return resp.Body.Close() // access is denied: it answers
		},
		StopSignals: []syscall.Signal{syscall.SIGKILL},
	}
	stop, err := d.start(ctx, process)
	return s, stop, err
}

// CreateBucket creates a bucket.
func (s *S3Server) CreateBucket(name string) error {
	return os.Mkdir(filepath.Join(s.buckets, name), 0o755)
}

// DeleteBucket deletes a bucket with its objects.
func (s *S3Server) DeleteBucket(name string) error {
	return os.RemoveAll(filepath.Join(s.buckets, name))
}

// AddFile adds an object of one byte without the server.
func (s *S3Server) AddFile(bucket, key string) error {
	path := filepath.Join(s.buckets, bucket, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte{'x'}, 0o644)
}

// Files lists the server's files of a bucket, also those of incomplete uploads.
func (s *S3Server) Files(bucket string) (names []string, err error) {
	root := filepath.Join(s.buckets, bucket)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(root, path)
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// BucketURL is the URL of a bucket, for processes with the variables of Env.
func (s *S3Server) BucketURL(name string) string {
	query := url.Values{"endpoint": {s.Endpoint}, "region": {s3Region}, "use_path_style": {"true"}}
	return "s3://" + name + "?" + query.Encode()
}

// Env returns the variables with the credentials.
func (s *S3Server) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s3AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3SecretKey,
		"AWS_EC2_METADATA_DISABLED=true", // no request to the metadata service
	}
}

// Setenv sets the variables of Env for the test.
func (s *S3Server) Setenv(t testing.TB) {
	t.Helper()
	for _, variable := range s.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
}

// Through returns the server behind a proxy at the URL that uses Handler.
func (s *S3Server) Through(proxy string) *S3Server {
	return &S3Server{Endpoint: proxy, buckets: s.buckets}
}

// Handler forwards requests to the server without changing their signatures.
func (s *S3Server) Handler() http.Handler {
	server, err := url.Parse(s.Endpoint)
	if err != nil {
		panic(err) // a defect
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(server)
			r.Out.Host = r.In.Host // is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("the S3 server does not answer: %v", err), http.StatusBadGateway)
		},
	}
}
