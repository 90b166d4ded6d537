package main

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/source"
)

// TestUnsolicitedResponseIsNotLogged has a source write more than its response,
// of which net/http logs the rest. It is not parallel, because package log is
// the whole process's.
func TestUnsolicitedResponseIsNotLogged(t *testing.T) {
	lines := make(chan string, 10)
	output, flags := stdlog.Writer(), stdlog.Flags()
	t.Cleanup(func() {
		stdlog.SetOutput(output)
		stdlog.SetFlags(flags)
	})
	newLogger(config.Config{}, lineWriter(lines))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nphotohunter2 \"hunter2")
		_, _ = io.Copy(io.Discard, conn)
	}()
	f, err := source.New(source.Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Fetch(t.Context(), fmt.Sprintf("http://%s/", listener.Addr()), new(bytes.Buffer), nil)
	require.NoError(t, err)
	line := <-lines
	require.Contains(t, line, "Unsolicited response received")
	require.NotContains(t, line, "hunter2")
}

type lineWriter chan<- string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}
