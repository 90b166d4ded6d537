// Package source fetches the source of a photo: it streams the response of an
// untrusted URL to a writer, under limits of time, size and address.
//
// The URL, the DNS names in it, the servers behind it and their responses are
// all treated as hostile. [Fetcher.Fetch] goes through these stages, once for
// the URL and once for each redirect:
//
//	URL ──▶ slot ──▶ dial ──▶ response ──▶ body ──▶ writer
//	 │       │        │         │           │
//	 │       │        │         │           └ size, speed, gzip     body.go, timeout.go
//	 │       │        │         └ status, header size and time      fetch.go, failure.go
//	 │       │        └ is the address public?                      dialer.go
//	 │       └ concurrent fetches per host                          host_limiter.go
//	 └ http or https, a valid host                                  url.go
//
// The address is checked when the socket is about to connect, not when the name
// is looked up. The check therefore covers every redirect, every address of a
// name, and names whose addresses change between two lookups (DNS rebinding).
//
// A fault of the source is returned as an [*Error], which holds a
// [photo.Failure] whose message the photo's owner may see, and a cause for the
// log. A fault of the writer is returned as a [*WriteError].
package source
