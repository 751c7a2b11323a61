//go:build !failpoints

package failpoint

// Here does nothing.
func Here(Point) {}

// OnPlugin does nothing.
func OnPlugin(func() int) {}
