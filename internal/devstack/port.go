package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"syscall"
)

// loopback is the only address anything of the stack listens on: none of it asks for a password.
const loopback = "127.0.0.1"

// CheckPort returns an error that tells what to do when the TCP address is taken: what is who wants it, such as "Temporal", and
// env the environment variable that sets another one.
func CheckPort(address, what, env string) error {
	listener, err := net.Listen("tcp", address)
	if err == nil {
		return listener.Close()
	}
	if _, port, splitErr := net.SplitHostPort(address); splitErr == nil && errors.Is(err, syscall.EADDRINUSE) {
		return &portTakenError{port: port, what: what, env: env}
	}
	return fmt.Errorf("cannot listen on %s (%s), which %s sets: %w", address, what, env, err)
}

// portTakenError is syscall.EADDRINUSE for people.
type portTakenError struct{ port, what, env string }

func (e *portTakenError) Error() string {
	return fmt.Sprintf("port %s (%s) is taken by another process; set %s to use another one", e.port, e.what, e.env)
}

func (e *portTakenError) Unwrap() error { return syscall.EADDRINUSE }

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on and that no other FreePort returns for a while, in whatever
// process: tests of several packages start servers at the same time.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	if runtime.GOOS != "linux" {
		// Elsewhere free ports are given out in turn.
		return port, nil
	}

	// Linux picks them at random. It passes over a port that has a connection in TIME_WAIT, which lasts a minute, while a server
	// that asks for this very port gets it. The end that closes first is the one to wait, so that must be the server's.
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		return 0, err
	}
	return port, server.Close()
}

// FreePortUpTo returns a TCP port of 127.0.0.1 that nobody listens on, below those that Linux gives out by itself.
func FreePortUpTo(highest int) (int, error) {
	const lowest, attempts = 10_000, 100
	var errs []error
	for range attempts {
		port := lowest + rand.IntN(highest-lowest+1)
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}
