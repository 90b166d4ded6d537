// Package chaos holds nothing but tests: a batch of photos is processed by the
// real program while all that it stands on breaks, and an auditor looks
// afterwards, from outside, whether anything is missing, left over or wrong.
//
//	plan      what breaks and when, drawn from a seed              plan_test.go
//	stack     PostgreSQL, Temporal, the API, two workers           stack_test.go
//	faults    kill -9, a full disk, a network that is no good      faults_test.go
//	sources   photos that cannot be had 30 % of the time           sources_test.go
//	client    posts until it has an answer                         client_test.go
//	auditor   SQL, files, HTTP and Temporal's API                  auditor_test.go
//
// `make chaos SEEDS=20` tries as many seeds, `make chaos SEED=7` repeats one: the
// same photos, sources, posts and faults. When a fault meets which step of which
// photo is up to the machine.
package chaos
