//go:build !unix

package statefile

// syncDir does nothing: Windows has no way to sync a directory, and its file
// systems log a rename before they answer.
func syncDir(string) error { return nil }
