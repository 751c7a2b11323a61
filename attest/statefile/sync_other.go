//go:build !unix

package statefile

// SyncDir does nothing: Windows has no way to sync a directory, and its file
// systems log a rename before they answer.
func SyncDir(string) error { return nil }
