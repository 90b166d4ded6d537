package photo

// Picture is one encoded thumbnail.
type Picture struct {
	Size  Size   // of the encoded picture; not larger than its box or the source
	Bytes []byte // a file in the configured Format
}
