// Package devstack runs what the project needs on one machine, without Docker: PostgreSQL from the installed packages with a cluster
// of its own, Temporal's development server with its Web UI, and whatever else is described as a [Process]. It serves `make start`,
// the foreground command `photo-processor dev` and, by way of package devstacktest, the tests of all packages.
//
//	make start ─▶ photo-processor dev start            make stop ─▶ photo-processor dev stop
//	                 │ Detach: a new session, then              │ Stop: SIGTERM, then waits
//	                 │ waits for the state                      │
//	                 ▼                                          ▼
//	              photo-processor dev ◀─────────────────────────┘
//	                 │ Dir.Lock            one of these for each data directory
//	                 │ Supervisor.Start    one after the other, each until it is ready:
//	                 ├──▶ postgres   <data>/postgres, socket in <data>/sock
//	                 ├──▶ temporal   <data>/temporal.db, 127.0.0.1:7233, Web UI on 8233
//	                 ├──▶ …          the API and a worker, which the command adds
//	                 │ Dir.WriteState      ready: here is where things are
//	                 │ … restarts whatever exits, until SIGTERM or Ctrl-C …
//	                 │ Supervisor.Stop     the same in reverse order
//	                 └ Lock.Unlock
//
// # The cluster
//
// `make cluster` (photo-processor dev start --cluster) runs Temporal's production server instead, a [TemporalServer], with PostgreSQL
// below it, in a directory of its own: [Dir.Cluster].
//
//	├──▶ postgres      <data>/cluster/postgres, and 127.0.0.1:54320 for roles with a password
//	├──▶ temporal      databases.sql, schema.sh, the server, namespace.sh: see package temporalconfig
//	├──▶ temporal-ui   its Web UI on 8233
//	├──▶ …             the API and three workers
//
// # When something is killed
//
// A child that exits is started again by the [Supervisor]. If the supervisor itself is killed, there is nobody left to do anything,
// so three things make sure that the next start finds a clean place:
//
//   - On Linux the kernel sends every child its Process.DeathSignal at that moment.
//   - A child that still runs nevertheless is found by its PID file and stopped before its successor starts. The file tells when
//     the process started, not only its number, so that nobody else's process is stopped.
//   - The lock is the kernel's, and a state is believed only while the process that wrote it runs.
//
// PostgreSQL and Temporal keep what they have confirmed when they are killed at any moment. Only a power cut can take something:
// the last moments of Temporal's development server, see [Temporal].
package devstack
