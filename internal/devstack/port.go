package devstack

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// loopback is the only address that the stack listens on: most of it asks for
// no password.
const loopback = "127.0.0.1"

// CheckPort returns an error if the TCP address is taken. The error names the
// server that wants it, such as "Temporal", and the environment variable that
// sets another port; it wraps syscall.EADDRINUSE.
func CheckPort(address, server, variable string) error {
	listener, err := net.Listen("tcp", address)
	if err == nil {
		return listener.Close()
	}
	if _, port, splitErr := net.SplitHostPort(address); splitErr == nil && errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %s (%s) is taken by another process; set %s to use another one: %w", port, server, variable, syscall.EADDRINUSE)
	}
	return fmt.Errorf("cannot listen on %s (%s), which %s sets: %w", address, server, variable, err)
}

// FreePort returns a TCP port of 127.0.0.1 that is free, and that no other
// FreePort, in whatever process, returns within a minute: tests of several
// packages start servers at the same time.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	// For a minute, Linux does not choose a port that has a connection in
	// TIME_WAIT, but gives it to a server that wants it. The side that closes
	// first gets into that state, so the server's side does.
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, server.Close()
}
