package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/postgres"
)

func TestOnlyErrorsOfTheConnectionAreUnavailable(t *testing.T) {
	t.Parallel()
	_, missingFile := os.Open("/missing/" + t.Name())
	for _, tt := range []struct {
		err         error
		unavailable bool
	}{
		{&pgconn.ConnectError{Config: &pgconn.Config{}}, true},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		{io.EOF, true},
		{io.ErrUnexpectedEOF, true},
		{net.ErrClosed, true},
		{context.DeadlineExceeded, true},
		{&pgconn.PgError{Code: "53300"}, true},
		{&pgconn.PgError{Code: "PP001"}, true},

		{&pgconn.PgError{Code: "22021"}, false},
		{&pgconn.PgError{Code: "23514"}, false},
		{context.Canceled, false},
		{missingFile, false},
		{&fs.PathError{Op: "write", Path: "source", Err: syscall.ENOSPC}, false},
		{&net.DNSError{Err: "no such host", Name: "photos.example", IsNotFound: true}, false},
		{errors.New("a defect"), false},
	} {
		t.Run(fmt.Sprintf("%T %v", tt.err, tt.err), func(t *testing.T) {
			translated := postgres.TranslateForTest(fmt.Errorf("read photo: %w", tt.err))
			require.ErrorIs(t, translated, tt.err)
			require.Equal(t, tt.unavailable, errors.Is(translated, postgres.ErrUnavailable))
		})
	}
	require.NoError(t, postgres.TranslateForTest(nil))
}
