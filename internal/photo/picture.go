package photo

// Picture is one encoded thumbnail.
type Picture struct {
	Size  Size // in pixels, as encoded; never larger than its box or the source
	Bytes []byte
}
