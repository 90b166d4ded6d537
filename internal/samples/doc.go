// Package samples generates landscape photos for development and load tests,
// and serves them over HTTP. They have the sizes and the detail of a camera's
// photos. Nothing is downloaded, and the same request always returns the same
// bytes.
//
//	/photos/mountains.jpg          one of Samples; forbidden.jpg answers 403
//	/generated/42/4000x3000.jpg    the landscape of any seed in any size, for load tests
//
// A photo is drawn at its first request, which takes about one second of CPU
// for six megapixels, and then stored in a directory.
//
// The package is for development only: the number of stored files has no limit.
package samples
