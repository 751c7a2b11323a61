package tsm

import (
	"io"
	"os"
	"path/filepath"
)

// Dir is configfs as it is mounted at a path, such as Root.
type Dir string

var _ FS = Dir("")

func (d Dir) path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// Mkdir makes an entry.
func (d Dir) Mkdir(name string) error { return os.Mkdir(d.path(name), 0o700) }

// Remove removes an entry; the kernel removes its attributes with it.
func (d Dir) Remove(name string) error { return os.Remove(d.path(name)) }

// WriteFile writes an attribute in one write, and the kernel takes it when the
// file is closed.
func (d Dir) WriteFile(name string, b []byte) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// ReadFile reads an attribute, and one byte more than MaxAttribute where it is
// longer.
func (d Dir) ReadFile(name string) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxAttribute+1))
}
