// Package chaos has only tests: the real program processes a batch of photos while
// its infrastructure breaks, and an auditor checks afterwards, from outside, that
// nothing is missing, left over or wrong.
//
//	plan      what breaks and when, drawn from a seed              plan_test.go
//	stack     PostgreSQL, Temporal, the API, two workers           stack_test.go
//	faults    kill -9, a full disk, a faulty network               faults_test.go
//	sources   pictures whose server fails 30 % of the requests     sources_test.go
//	client    posts until it gets a response                       client_test.go
//	auditor   SQL, files, HTTP and Temporal's API                  auditor_…test.go
//
// `make chaos SEEDS=20` runs twenty seeds, `make chaos SEED=7` repeats one: the same
// photos, sources, posts and faults. Which step of which photo a fault hits depends
// on the machine.
package chaos
