package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/photo-processor/photo-processor/internal/health"
)

// Temporal returns the options of the connection to Temporal, from the variables
// and the file of Temporal's own tools.
func Temporal(logger *slog.Logger) (client.Options, error) {
	err := checkPaths()
	var options client.Options
	if err == nil {
		options, err = envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: nonEmptyVariables{}})
	}
	if err := errors.Join(err, checkSwitches(), checkCertificates(options)); err != nil {
		return client.Options{}, fmt.Errorf("configuration of Temporal (TEMPORAL_… variables and its file): %w", err)
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	options.Logger = log.NewStructuredLogger(logger)
	// Messages have some hundred bytes; compressing them, the SDK's default, costs
	// CPU time on both sides and saves nothing.
	options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	return options, nil
}

// nonEmptyVariables are the environment's variables that are not empty. To
// envconfig, an empty TEMPORAL_TLS_CLIENT_CERT_PATH would turn TLS on.
type nonEmptyVariables struct{}

func (nonEmptyVariables) Environ() []string { return os.Environ() }

func (nonEmptyVariables) LookupEnv(name string) (string, bool) {
	value := os.Getenv(name)
	return value, value != ""
}

// checkPaths rejects keys and certificates in the variables for their files: the
// error of a file that cannot be opened quotes its path.
func checkPaths() error {
	for _, name := range []string{"TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_CONFIG_FILE"} {
		if strings.ContainsAny(os.Getenv(name), "\r\n") {
			return fmt.Errorf("%s: must be the path of a file, not its content", name)
		}
	}
	return nil
}

// checkSwitches rejects values that envconfig would take for unset.
func checkSwitches() error {
	for _, name := range []string{"TEMPORAL_TLS", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"} {
		switch value := strings.ToLower(os.Getenv(name)); value {
		case "", "0", "1", "true", "false":
		default:
			return fmt.Errorf("%s: must be true or false, not %q", name, value)
		}
	}
	return nil
}

// checkCertificates rejects client certificates that have expired or are not
// valid yet: a server may close the connection without a reason.
func checkCertificates(options client.Options) error {
	if options.ConnectionOptions.TLS == nil {
		return nil
	}
	for _, certificate := range options.ConnectionOptions.TLS.Certificates {
		switch leaf, now := certificate.Leaf, time.Now(); {
		case now.After(leaf.NotAfter):
			return fmt.Errorf("TEMPORAL_TLS_CLIENT_CERT_PATH (or _DATA): the client's certificate has expired on %s", leaf.NotAfter.Format(time.RFC3339))
		case now.Before(leaf.NotBefore):
			return fmt.Errorf("TEMPORAL_TLS_CLIENT_CERT_PATH (or _DATA): the client's certificate is not valid before %s", leaf.NotBefore.Format(time.RFC3339))
		}
	}
	return nil
}

// temporalTimeout bounds one request at the start, as Temporal's SDK does.
const temporalTimeout = 10 * time.Second

// WaitForTemporal waits until Temporal accepts the client and has its namespace.
// The error is permanent, and says what is probably wrong.
func WaitForTemporal(ctx context.Context, logger *slog.Logger, c client.Client, options client.Options) error {
	isTransient := func(err error) bool { return temporalAdvice(err, options) == "" }
	err := health.WaitUntilReady(ctx, logger, "Temporal", isTransient, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, temporalTimeout)
		defer cancel()
		return PingTemporal(ctx, c, options.Namespace)
	})
	if err != nil {
		return ExplainTemporalError(err, options)
	}
	return nil
}

// PingTemporal checks that Temporal accepts the client and has the namespace.
func PingTemporal(ctx context.Context, c client.Client, namespace string) error {
	_, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	return err
}

// ExplainTemporalError adds Temporal's address to a permanent error, and what is
// probably wrong.
func ExplainTemporalError(err error, options client.Options) error {
	advice := cmp.Or(temporalAdvice(err, options), "it refuses the requests of this program")
	return fmt.Errorf("Temporal at %s: %s: %w", cmp.Or(options.HostPort, client.DefaultHostPort), advice, err)
}

// temporalAdvice says what to do about a permanent error. It returns "" for a
// transient one.
func temporalAdvice(err error, options client.Options) string {
	if _, ok := errors.AsType[*serviceerror.NamespaceNotFound](err); ok {
		return fmt.Sprintf("it has no namespace %q; create it, or set TEMPORAL_NAMESPACE", options.Namespace)
	}
	_, denied := errors.AsType[*serviceerror.PermissionDenied](err)
	if denied || status.Code(err) == codes.Unauthenticated {
		return fmt.Sprintf("access is denied; check TEMPORAL_API_KEY or the client's certificate, and its permissions in the namespace %q (TEMPORAL_NAMESPACE)", options.Namespace)
	}
	// gRPC has no types for errors of certificates, only Go's texts.
	contains := func(text string) bool { return strings.Contains(err.Error(), text) }
	switch {
	case contains("x509: "):
		return "its certificate is not trusted; check TEMPORAL_TLS_SERVER_CA_CERT_PATH and TEMPORAL_TLS_SERVER_NAME"
	case contains("remote error: tls: ") && contains("certificate"):
		return "it rejects the client's certificate; check TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH"
	case contains("first record does not look like a TLS handshake"):
		return "it does not use TLS; check TEMPORAL_TLS and TEMPORAL_ADDRESS"
	}
	return ""
}
