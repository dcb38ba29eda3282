//go:build !unix

package load

// needFiles: there is no such limit here.
func needFiles(int) error { return nil }
