// Package source fetches a photo's source: whatever an untrusted URL leads to,
// streamed to a writer under limits.
//
// The URL, the names in it, the servers behind it and every byte that they send
// are taken for hostile. One call of [Fetcher.Fetch] goes through these stages,
// and around again for each redirect:
//
//	URL ──▶ slot ──▶ dial ──▶ answer ──▶ body ──▶ writer
//	 │       │        │         │         │
//	 │       │        │         │         └ size, speed, gzip      body.go
//	 │       │        │         └ status, header size and time     fetch.go, failure.go
//	 │       │        └ the address, checked as it is dialed       guard.go
//	 │       └ at most so many fetches to one host at a time       hosts.go
//	 └ http or https, a host that can be one                       url.go
//
// An address is checked when the socket is about to connect, never when a name
// is looked up: so it holds for every redirect, for every address that a name
// has, and for names that change between two lookups.
//
// What is the source's fault comes back as an [*Error], which holds a
// [photo.Failure]: its message is fit for the photo's owner, and its cause for
// the log. What is the writer's fault comes back as a [*WriteError].
package source
