package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// ServeControl lets other commands of the same user list, stop and start the
// supervisor's processes, until it is closed. Only the holder of the lock may
// call it.
func (d Dir) ServeControl(supervisor *Supervisor) (io.Closer, error) {
	if err := checkSocketPath(d.control()); err != nil {
		return nil, err
	}
	if err := removeIfExists(d.control()); err != nil { // left by a supervisor that was killed
		return nil, err
	}
	listener, err := net.Listen("unix", d.control())
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /processes", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(supervisor.Processes())
	})
	handle := func(pattern string, act func(ctx context.Context, name string) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := act(r.Context(), r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("POST /processes/{name}/start", supervisor.StartProcess)
	handle("POST /processes/{name}/stop", func(_ context.Context, name string) error { return supervisor.StopProcess(name) })
	server := &http.Server{Handler: mux} //nolint:gosec // Its only clients are commands of the same user.
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

// StartProcess starts a process of the running stack that StopProcess has
// stopped, and returns when it is ready.
func (d Dir) StartProcess(ctx context.Context, name string) error {
	_, err := d.requestControl(ctx, http.MethodPost, "/processes/"+name+"/start")
	return err
}

// StopProcess stops a process of the running stack, and returns when it has
// exited. It stays stopped until StartProcess, or until the stack is restarted.
func (d Dir) StopProcess(ctx context.Context, name string) error {
	_, err := d.requestControl(ctx, http.MethodPost, "/processes/"+name+"/stop")
	return err
}

// processes lists the processes of the running stack.
func (d Dir) processes(ctx context.Context) (list []ProcessStatus, err error) {
	body, err := d.requestControl(ctx, http.MethodGet, "/processes")
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	return list, err
}

func (d Dir) requestControl(ctx context.Context, method, path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.control())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("talk to the supervisor: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	return body, err
}
