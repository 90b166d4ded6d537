package sourcecache

import "os"

// createTempFile creates a file without a name, which vanishes when it is
// closed or the process ends. Where O_TMPFILE is not supported, the file has a
// name until it is unlinked: a process that is killed in between leaves an
// empty file behind.
func createTempFile(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if file, err := openUnnamed(dir); err == nil {
		return file, nil
	}
	file, err := os.CreateTemp(dir, "source-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
