// Package devstack runs PostgreSQL, Temporal and other processes on one
// machine, without Docker, for `make start` and for the tests. It needs Linux.
//
//	make start ─▶ photo-processor-dev start        make stop ─▶ photo-processor-dev stop
//	                 │ Start: in a session of            │ Stop: by the socket, then
//	                 │ its own, until it is ready        │ waits until it is gone
//	                 ▼                                   ▼
//	              photo-processor-dev run ◀──────────────┘
//	                 │ Dir.Lock            one supervisor for each data directory,
//	                 │                     with a control socket
//	                 │ Supervisor.Start    one process after the other, until it is ready
//	                 ├──▶ postgres   <data>/postgres, socket in <data>/sock
//	                 ├──▶ temporal   <data>/temporal.db, 127.0.0.1:7233, Web UI on 8233
//	                 ├──▶ …          the API and a worker
//	                 │ Control.SetReady    addresses for other commands
//	                 │ … restarts whichever exits, until SIGTERM or Ctrl-C …
//	                 └ Supervisor.Stop     the same in reverse order
//
// While it runs, [Dir.Status] reads its status through the control socket, and
// [Dir.StopProcess] and [Dir.StartProcess] stop and start single processes.
//
// With --cluster, Temporal is a [TemporalServer], the production server with
// its data in PostgreSQL, and there are three workers. A cluster has a data
// directory of its own: [Dir.Cluster].
//
// The [Supervisor] restarts a child that is killed. If the supervisor is
// killed, the kernel kills its children and releases the lock, so that the next
// start finds free ports. PostgreSQL and Temporal lose nothing that they have
// confirmed.
package devstack
