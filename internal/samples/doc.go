// Package samples makes photos to try the service with: landscapes that it draws
// itself, in the sizes and with the detail of a camera's, and serves over HTTP.
// Nothing is downloaded, and the same request always gives the same bytes.
//
//	/photos/mountains.jpg               one of Samples; forbidden.jpg answers 403
//	/generated/42/4000x3000.jpg         the landscape of any seed in any size, for load tests
//
// A photo is drawn when it is first asked for, which takes about a second of CPU
// for six megapixels, and then kept in a directory.
//
// Only for development: there is no limit on how many files the directory comes
// to hold.
package samples
